/** `npm run demo`: plays a day in the shop and shows each event and mail that it causes. */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { isDeepStrictEqual } from 'node:util'
import { topics } from '@shopstream/events'
import { type IncomingMessage, type Message, openKafkaBus, readMessage } from '@shopstream/messaging'
import { createLogger } from '@shopstream/observability'
import { eventually, type Mail } from '@shopstream/testing'
import { type Answer, type Call, type Customer, call, orderOf, register, staffToken } from '../local/client.ts'
import { type RunningShop, runningShop } from '../local/home.ts'
import { paint } from '../local/lines.ts'
import { type Shop, startShop } from '../local/shop.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run demo

Plays a day in the shop that npm start runs in this clone (or starts one for it): customers register, staff stock a
product, customers order until it is sold out, staff ship. Shows what each step answers, the events it causes in Kafka
and the mails that go out. Takes half a minute at most and leaves its customers and its product behind.`

const colour = process.stdout.isTTY === true && !process.env.NO_COLOR
const say = (line = '') => void process.stdout.write(`${line}\n`)
const bold = (text: string) => paint(1, text, colour)
const grey = (text: string) => paint(90, text, colour)

async function main(): Promise<void> {
  const running = runningShop()
  if (!running) say('No shop runs here; starting one for the demo …')
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))
  let own: Shop | undefined
  try {
    own = running
      ? undefined
      : await startShop({ onProgress: (line) => say(grey(`  ${line}`)), signal: interrupted.signal })
    const ended = once(interrupted.signal, 'abort').then(() => Promise.reject(interrupted.signal.reason))
    await Promise.race([ended, play((running ?? runningShop()) as RunningShop)])
    say(bold('\nEvery step worked.'))
  } catch (error) {
    process.stderr.write(`\nThe demo went wrong: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  } finally {
    await own?.stop()
  }
}

/** What others have written to the topics is no part of the play. */
function readEvent(message: IncomingMessage): Message[] {
  try {
    return [readMessage(message)]
  } catch {
    return []
  }
}

/** Watches the topics and the inbox, and shows what is new in them. */
async function watch(shop: RunningShop) {
  const logger = createLogger({ service: 'demo', level: 'silent', format: 'json' })
  const bus = await openKafkaBus({ brokers: shop.brokers, topicPrefix: shop.topicPrefix, clientId: 'demo', logger })
  const begun = Date.now()
  const events: Message[] = []
  const shown = new Set<string>()
  const names = topics.map(({ name }) => name).filter((name) => name !== 'shop.schema.v1')
  const consumer = bus.consume({
    group: `demo-${randomUUID()}`,
    topics: names,
    async handle(batch, partition) {
      events.push(...batch.messages.flatMap(readEvent).filter(({ time }) => time.getTime() >= begun))
      partition.done(batch.unreadable ? batch.unreadable.lastOffset + 1n : batch.next)
    },
  })
  const mails = async () => (await (await fetch(`${shop.mailUrl}/email`)).json()) as Mail[]
  for (const mail of await mails()) shown.add(mail.id)

  return {
    events,
    mails,
    /** Shows new events and mails once `isThere` says that the awaited ones have come. */
    async show(what: string, isThere: (events: Message[], mails: Mail[]) => boolean) {
      const inbox = await eventually(
        what,
        async () => {
          const found = await mails()
          return isThere(events, found) ? found : undefined
        },
        { timeoutMs: 20_000 },
      )
      const fresh = events.filter(({ id }) => !shown.has(id)).toSorted((a, b) => a.time.getTime() - b.time.getTime())
      for (const event of fresh.slice(0, 12))
        say(`  ${paint(36, 'event', colour)} ${event.type.padEnd(18)} ${grey(placeOf(event))}`)
      if (fresh.length > 12) say(grey(`        … and ${fresh.length - 12} more`))
      const sent = (inbox ?? []).filter(({ id }) => !shown.has(id))
      for (const mail of sent.slice(0, 6))
        say(`  ${paint(33, 'mail', colour)}  ${mail.subject} ${grey(`to ${mail.to[0]?.address}`)}`)
      if (sent.length > 6) say(grey(`        … and ${sent.length - 6} more`))
      for (const { id } of [...fresh, ...sent]) shown.add(id)
    },
    async close() {
      await consumer.close()
      await bus.close()
    },
  }
}

const placeOf = ({ topic, partition, offset, key }: Message) => `${topic}/${partition} at ${offset}, key ${key}`

async function play(shop: RunningShop): Promise<void> {
  const world = await watch(shop)
  let number = 0
  const step = (title: string) => {
    number += 1
    say(`\n${bold(`${number}. ${title}`)}`)
  }
  const request = async (method: string, path: string, expected: number, options: Call = {}): Promise<Answer> => {
    const answer = await call(shop, method, path, options)
    say(`  ${method} ${path} ${paint(answer.status < 400 ? 32 : 31, String(answer.status), colour)}${summary(answer)}`)
    if (answer.status !== expected)
      throw new Error(`${method} ${path}: ${answer.status} instead of ${expected}: ${JSON.stringify(answer.body)}`)
    return answer
  }
  const isEvent = (type: string, key: string) => (events: Message[]) =>
    events.some((event) => event.type === type && event.key === key)
  const hasMail = (to: Customer, word: string) => (_: Message[], mails: Mail[]) =>
    mails.some((mail) => mail.to.some(({ address }) => address === to.email) && mail.subject.includes(word))
  const all =
    (...conditions: ((events: Message[], mails: Mail[]) => boolean)[]) =>
    (events: Message[], mails: Mail[]) =>
      conditions.every((condition) => condition(events, mails))

  try {
    step('Two customers register')
    const [ada, lee] = [await register(shop, 'Ada Lovelace'), await register(shop, '李小龍')]
    say(`  ${ada.email}\n  ${lee.email}`)
    await world.show(
      'both welcome mails',
      all(hasMail(ada, 'welcome'), hasMail(lee, 'welcome'), isEvent('UserRegistered', lee.id)),
    )

    step('Staff list a product and put 10 pieces on the shelf')
    const staff = await staffToken(shop)
    const sku = `demo-${randomUUID().slice(0, 8)}`
    const details = {
      name: 'Limited print',
      description: 'Ten copies, numbered.',
      price: { amount: 4_900, currency: 'EUR' },
    }
    await request('PUT', `/v1/products/${sku}`, 201, { token: staff, body: details })
    await request('POST', `/v1/products/${sku}/stock-adjustments`, 201, {
      token: staff,
      body: { delta: 10, reason: 'from the printer' },
    })
    await world.show('the listing', all(isEvent('ProductListed', sku), isEvent('StockLevelChanged', sku)))

    step('Ada orders two; the answer comes when they are reserved')
    const headers = { prefer: 'wait=10', 'idempotency-key': randomUUID() }
    await eventually('the order service to know the product', async () => {
      const probe = await call(shop, 'POST', '/v1/orders', {
        token: ada.token,
        body: { ...orderOf(sku), items: [{ sku, quantity: 1, unitPrice: { amount: 1, currency: 'EUR' } }] },
      })
      return probe.body.code === 'price-changed' // refused for its price: the product is known
    })
    const first = await request('POST', '/v1/orders', 201, { token: ada.token, body: orderOf(sku, 2), headers })
    if (first.body.status !== 'confirmed') throw new Error(`the first order is ${first.body.status}`)
    await world.show(
      'the confirmation',
      all(isEvent('StockReserved', first.body.id), isEvent('OrderConfirmed', first.body.id), hasMail(ada, 'confirmed')),
    )

    step('Her connection broke, she sends the same request again: nothing happens twice')
    const again = await request('POST', '/v1/orders', 201, { token: ada.token, body: orderOf(sku, 2), headers })
    if (again.headers.get('idempotency-replayed') !== 'true' || !isDeepStrictEqual(again.body, first.body))
      throw new Error('the repeated request was not answered with the first answer')
    say('  the same order, answered from memory (Idempotency-Replayed: true)')

    step('Twelve orders at once for the eight that are left')
    const rush = await Promise.all(
      Array.from({ length: 12 }, () =>
        call(shop, 'POST', '/v1/orders', { token: lee.token, body: orderOf(sku), headers: { prefer: 'wait=15' } }),
      ),
    )
    const count = (status: string) => rush.filter(({ body }) => body.status === status).length
    say(`  ${count('confirmed')} confirmed, ${count('rejected')} rejected`)
    if (count('confirmed') !== 8 || count('rejected') !== 4) throw new Error('8 confirmed and 4 rejected were expected')
    const decided = (events: Message[], mails: Mail[]) =>
      rush.every(
        ({ body }) =>
          events.some(({ type, key }) => key === body.id && /^Order(Confirmed|Rejected)$/.test(type)) &&
          mails.some(({ text }) => text.includes(body.id)),
      )
    await world.show('a mail for each', decided)

    step("Staff ship Ada's order, and it arrives")
    await request('POST', `/v1/orders/${first.body.id}/shipment`, 201, {
      token: staff,
      body: { carrier: 'Post', trackingNumber: 'T-0001' },
    })
    await request('POST', `/v1/orders/${first.body.id}/delivery`, 201, { token: staff })
    await world.show(
      'the sale',
      all(isEvent('StockSold', first.body.id), isEvent('OrderDelivered', first.body.id), hasMail(ada, 'shipped')),
    )

    step('Lee cancels one; its piece is on the shelf again')
    const cancelled = rush.find(({ body }) => body.status === 'confirmed')?.body.id
    await request('POST', `/v1/orders/${cancelled}/cancel`, 200, {
      token: lee.token,
      body: { reason: 'changed my mind' },
    })
    await world.show('the release', all(isEvent('StockReleased', cancelled), hasMail(lee, 'cancelled')))
    const { body: level } = await request('GET', `/v1/products/${sku}/stock`, 200, { token: staff })
    if (!isDeepStrictEqual(level, { sku, onHand: 8, reserved: 7, available: 1 }))
      throw new Error(`the stock is ${JSON.stringify(level)}`)
  } finally {
    await world.close()
  }
}

/** What of an answer a reader wants to see. */
function summary({ body }: Answer): string {
  const parts = ['status', 'code', 'reason', 'onHand', 'reserved', 'available', 'version'].filter(
    (name) => typeof body?.[name] === 'string' || typeof body?.[name] === 'number',
  )
  return parts.length === 0 ? '' : grey(` ${parts.map((name) => `${name} ${body[name]}`).join(', ')}`)
}

readOptions(usage, {})
await main()
process.exit()
