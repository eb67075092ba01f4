/** `npm run shop -- COMMAND` against one real shop, of which three services are stopped and started at will. */
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { createDatabase, type Database, sql } from '@shopstream/database'
import { encode, newEventId, partitionOf, registry } from '@shopstream/events'
import type { NewEvent } from '@shopstream/messaging'
import { outgoing } from '@shopstream/messaging/operations'
import { encodeBatch, type ForeignProducer, openForeignProducer } from '@shopstream/messaging/testing'
import { eventually, repository, startMailSink, temporaryFolder, testLogger } from '@shopstream/testing'
import { exampleEvent } from '@shopstream/testing/contract'
import {
  type Customer,
  call,
  order,
  ordersOf,
  persistently,
  register,
  staffToken,
  stock,
  stockOf,
} from '../../local/client.ts'
import { serviceNames } from '../../local/services.ts'
import { nodeFlags, type Shop } from '../../local/shop.ts'
import { type SupervisedService, supervise } from '../../local/supervisor.ts'
import { archive } from '../../operations/archive.ts'
import { catchUp } from '../../operations/catch-up.ts'
import { run as deadLetters } from '../../operations/dead-letters.ts'
import { explain } from '../../operations/explain.ts'
import { grow } from '../../operations/grow.ts'
import { lag } from '../../operations/lag.ts'
import { republish } from '../../operations/republish.ts'
import { rewind } from '../../operations/rewind.ts'
import { findPlace, type Owner, owners, type Reach, reach } from '../../operations/shop-access.ts'
import { status } from '../../operations/status.ts'
import { tail } from '../../operations/tail.ts'
import { run as unreadable } from '../../operations/unreadable.ts'
import { verify } from '../../operations/verify.ts'
import { settingsOf } from '../../services.ts'
import { Refusal, UsageError } from '../../terminal/options.ts'
import { buildService } from '../../workspace/bundle.ts'
import { mailsAbout, openShop } from './shop-under-test.ts'

const patience = { timeoutMs: 60_000 }
const minutes = 60_000

let opened: Awaited<ReturnType<typeof openShop>>
let shop: Shop
let staff: string
let customer: Customer
let held: Reach
const alone = new Map<string, SupervisedService>()

/** Those that tests stop and start. */
const movable = ['inventory', 'order', 'notification'] as const

beforeAll(async () => {
  opened = await openShop({ only: serviceNames.filter((name) => !(movable as readonly string[]).includes(name)) })
  shop = opened.shop
  process.env.SHOPSTREAM_HOME = opened.home
  for (const service of movable) start(service)
  await eventually(
    'the whole shop to be ready',
    async () => (await call(shop, 'GET', '/readyz')).status === 200,
    patience,
  )
  staff = await staffToken(shop)
  customer = await register(shop)
  held = await reach(findPlace())
}, 180_000)

afterAll(async () => {
  delete process.env.SHOPSTREAM_HOME
  await held?.close()
  await Promise.all(movable.map(stop))
  await shop?.stop()
  opened?.forget()
}, 30_000)

/** As README says it is done: with the environment that the stack has written. */
function start(service: string): void {
  const env = parseEnv(readFileSync(join(opened.home, 'env', `${service}.env`), 'utf8'))
  const { PATH } = process.env
  alone.set(
    service,
    supervise({
      name: service,
      command: process.execPath,
      args: [...nodeFlags, `services/${service}/src/main.ts`],
      cwd: repository,
      env: { PATH, ...env, LOG_FORMAT: 'json', SHOPSTREAM_STACK_PID: String(process.pid) },
      pidFile: join(opened.home, `${service}-alone.pid`),
      readyUrl: `http://127.0.0.1:${env.PORT}/readyz`,
      onLine: (line) => opened.tell(`${service} ${line}`),
      onEvent: (line) => opened.tell(line),
      onGivenUp: (line) => opened.tell(line),
    }),
  )
}

async function stop(service: string): Promise<void> {
  await alone.get(service)?.stop(8_000)
}

const isReady = (service: string) => eventually(`${service} to be ready`, () => alone.get(service)?.ready, patience)

type Run = (args: string[]) => Promise<number>

/** Runs a command as `npm run shop` does; returns its exit code and what it printed. */
async function run(command: Run, ...args: string[]): Promise<{ code: number; out: string }> {
  const printed: string[] = []
  const print = jest.spyOn(console, 'log').mockImplementation((line) => void printed.push(String(line)))
  try {
    return { code: await command(args), out: printed.join('\n') }
  } finally {
    print.mockRestore()
  }
}

// biome-ignore lint/suspicious/noExplicitAny: whatever JSON the commands print
async function json(command: Run, ...args: string[]): Promise<any> {
  return JSON.parse((await run(command, ...args, '--json')).out)
}

// biome-ignore lint/suspicious/noExplicitAny: see above
const lines = async (command: Run, ...args: string[]): Promise<any[]> =>
  (await run(command, ...args, '--json')).out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

async function placed(sku: string, headers = {}): Promise<string> {
  return (await order(shop, customer.token, sku, headers)).body.id
}

const decided = (id: string) =>
  eventually(
    `${id} to be decided`,
    async () => {
      const { body } = await persistently(shop, 'GET', `/v1/orders/${id}`, { token: staff })
      return body.status !== 'pending' && body.status
    },
    patience,
  )

/** Explains until the verdict is as expected: the commands tell of a moment, and the shop goes on. */
// biome-ignore lint/suspicious/noExplicitAny: see above
const verdictIs = (id: string, state: string, words: string | RegExp): Promise<any> =>
  eventually(
    `${id} to be ${state}: ${words}`,
    async () => {
      const story = await json(explain, id)
      const { verdict } = story
      const fits =
        verdict.state === state && (words instanceof RegExp ? words.test(verdict.text) : verdict.text.includes(words))
      if (!fits) throw new Error(JSON.stringify(verdict))
      return story
    },
    patience,
  )

describe('a shop in which all is well', () => {
  test('status says so, and exits with 0', async () => {
    const seen = await eventually(
      'all to be well',
      async () => {
        const found = await run(status)
        return found.code === 0 ? found : undefined
      },
      patience,
    )
    expect(seen.out).toContain('All is well.')
    const { ok, services, groups } = await json(status)
    expect({ ok, states: services.map(({ state }: { state: string }) => state) }).toEqual({
      ok: true,
      states: serviceNames.map(() => 'ready'),
    })
    const consuming = owners.filter((owner) => owner !== 'user') // which consumes nothing
    expect(groups.map(({ group }: { group: string }) => group).sort()).toEqual(consuming.toSorted())
  })

  test('explain tells the whole story of an order; only its addressee is missing from it', async () => {
    const sku = await stock(shop, staff, 10)
    const id = await placed(sku, { 'idempotency-key': 'my-first-order' })
    await decided(id)
    const story = await eventually(
      'the mail',
      async () => {
        const found = await json(explain, id)
        return found.mails[0]?.state === 'sent' && found
      },
      patience,
    )
    const partition = partitionOf(id, 6)
    expect(story).toMatchObject({
      kind: 'order',
      order: { status: 'confirmed', userId: customer.id },
      request: { key: 'my-first-order' },
      traceIds: [expect.stringMatching(/^[0-9a-f]{32}$/)],
      events: [
        ['OrderPlaced', 'shop.order.v1', 'order', 'inventory'],
        ['StockReserved', 'shop.reservation.v1', 'inventory', 'order'],
        ['OrderConfirmed', 'shop.order.v1', 'order', 'notification'],
      ].map(([type, topic, source, group]) => ({
        type,
        topic,
        partition,
        offset: expect.stringMatching(/^\d+$/),
        source,
        writtenAt: expect.any(String),
        handledBy: [{ group, state: 'handled', at: expect.any(String) }],
      })),
      mails: [{ kind: 'confirmed', state: 'sent' }],
      missing: [],
      notAsked: [],
      verdict: { state: 'waiting', text: expect.stringContaining(`POST /v1/orders/${id}/shipment`) },
    })
    const { code, out } = await run(explain, id)
    expect(code).toBe(0)
    for (const words of ['OrderPlaced #1 by order', '→ inventory handled', 'mail "confirmed"', story.traceIds[0]])
      expect(out).toContain(words)
    expect(out).not.toMatch(/example\.com|Lovelace|St James/)
  })

  test('explain --follow goes on until nothing more will happen', async () => {
    const id = await placed(await stock(shop, staff, 10))
    await decided(id)
    const following = run(explain, 'order', id, '--follow', '--json')
    await persistently(shop, 'POST', `/v1/orders/${id}/cancel`, {
      token: customer.token,
      body: { reason: 'changed my mind' },
    })
    const { code, out } = await following
    const last = JSON.parse(out.split('\n').at(-1) as string)
    expect({ code, verdict: last.verdict }).toEqual({
      code: 0,
      verdict: { state: 'final', text: expect.stringContaining('cancelled (changed my mind)'), run: [] },
    })
    expect(last.events.map(({ type }: { type: string }) => type)).toEqual(
      expect.arrayContaining(['OrderCancelled', 'StockReleased']),
    )
  })

  test('explain knows users by id and address, products and events; addresses only with --personal', async () => {
    const sku = await stock(shop, staff, 10)
    const id = await placed(sku)
    await decided(id)
    const byEmail = await verdictIs(customer.email, 'final', 'knows the latest state')
    expect(byEmail).toMatchObject({
      kind: 'user',
      id: customer.id,
      account: { email: '•••' },
      replicas: [{ sequence: '1' }],
    })
    expect(await json(explain, customer.id, '--personal')).toMatchObject({
      kind: 'user',
      account: { email: customer.email },
    })
    // As if a bridge had brought it in: its service knows the key.
    await sql`insert into received_key (topic, key, sequence) values ('shop.loyalty.v1', ${customer.id}, 1)`.execute(
      held.databases.bridge.query,
    )
    const data = { userId: customer.id, points: 1, total: 1, reason: 'a test', awardedAt: new Date() }
    const eventId = newEventId()
    await held.bus.publish([
      outgoing('bridge', { ...(exampleEvent('PointsAwarded', customer.id, data) as NewEvent), id: eventId }),
    ])
    await sql`insert into received (source, id, event_id) values ('erp', '/erp award 7', ${eventId})`.execute(
      held.databases.bridge.query,
    )
    expect(await json(explain, 'event', 'award 7')).toMatchObject({
      id: eventId,
      cameIn: { source: 'erp', id: 'award 7' },
    })
    await expect(run(explain, 'event', 'award 8')).rejects.toThrow('There is no event award 8')
    const { events: ofUser, verdict } = await json(explain, customer.id)
    expect(ofUser.map(({ type }: { type: string }) => type)).toEqual(['UserRegistered', 'PointsAwarded'])
    expect(verdict).toMatchObject({ state: 'final' })
    expect(await verdictIs(sku, 'final', 'adds up')).toMatchObject({
      kind: 'product',
      stock: { onHand: 10, reserved: 1, heldForOrders: 1 },
    })
    const { events } = await json(explain, id)
    const [place] = events
    expect(await json(explain, place.id)).toMatchObject({
      kind: 'event',
      event: { type: 'OrderPlaced', offset: place.offset, data: { orderId: id } },
      verdict: { state: 'final' },
    })
    await expect(run(explain, randomUUID())).rejects.toThrow(Refusal)
    await expect(run(explain, 'no-such-sku')).rejects.toThrow('There is no product no-such-sku')
    await expect(run(explain)).rejects.toThrow(UsageError)
    for (const kind of ['order', 'user', 'product', 'event'])
      await expect(run(explain, kind)).rejects.toThrow(new UsageError(`Which ${kind}? `).message)
    await expect(run(explain, 'constructor', customer.id)).rejects.toThrow(UsageError)
  })
})

describe('tail', () => {
  test('filters by key, type and event id, stops after n, and masks what is personal', async () => {
    const sku = await stock(shop, staff, 10)
    const id = await placed(sku)
    await decided(id)
    const ofOrder = await lines(tail, 'shop.order.v1', 'shop.reservation.v1', '--from', '1h', '--to-end', '--key', id)
    expect(ofOrder.map(({ type }) => type)).toEqual(['OrderPlaced', 'StockReserved', 'OrderConfirmed'])
    const all = await lines(tail, 'shop.order.v1', 'shop.stock.v1', '--from', 'beginning', '--to-end')
    const times = all.map(({ writtenAt }) => writtenAt)
    expect(new Set(all.map(({ partition }) => partition)).size).toBeGreaterThan(1)
    expect(times).toEqual(times.toSorted())
    expect(ofOrder[0]).toMatchObject({ key: id, data: { orderId: id }, traceId: expect.any(String) })
    const oneOfTwo = ['shop.order.v1', '--from', 'beginning', '--key', id, '-n', '1'] // both come in one batch
    expect(await lines(tail, ...oneOfTwo)).toMatchObject([{ type: 'OrderPlaced' }])
    const wanted = ofOrder.find(({ type }) => type === 'OrderConfirmed')
    expect(await lines(tail, 'shop.order.v1', '--from', 'beginning', '--to-end', '--event-id', wanted.id)).toEqual([
      wanted,
    ])
    const first = ['shop.order.v1', '--from', 'beginning', '--to-end', '--type', 'OrderConfirmed', '-n', '1']
    expect((await lines(tail, ...first)).map(({ type }) => type)).toEqual(['OrderConfirmed'])
    const ofUser = ['shop.user.v1', '--from', 'beginning', '--to-end', '--key', customer.id]
    expect((await lines(tail, ...ofUser))[0].data).toMatchObject({
      userId: customer.id,
      email: '•••',
      displayName: '•••',
    })
    expect((await lines(tail, ...ofUser, '--personal'))[0].data).toMatchObject({ email: customer.email })
  })

  test('shows new events as they come', async () => {
    const sku = await stock(shop, staff, 10)
    const following = run(tail, 'shop.order.v1', '--type', 'OrderPlaced', '-n', '1', '--json')
    let ended = false
    void following.finally(() => {
      ended = true
    })
    await eventually(
      'an event to be shown',
      async () => {
        if (!ended) await placed(sku)
        return ended
      },
      { ...patience, everyMs: 200 },
    )
    expect(JSON.parse((await following).out)).toMatchObject({ type: 'OrderPlaced', data: { lines: [{ sku }] } })
  })

  test('shows bytes where a schema is unknown, and decodes them once a service has learned it', async () => {
    const entry = registry.findLast(({ subject }) =>
      subject.endsWith('.StockLevelChanged'),
    ) as (typeof registry)[number]
    const key = `sku-${randomUUID()}`
    const value = encode('StockLevelChanged', { sku: key, onHand: 3, reserved: 1, available: 2 })
    value.writeUInt32BE(299_999, 1)
    await held.bus.publish([
      { topic: 'shop.stock.v1', partition: partitionOf(key, 6), key, value, headers: { ce_type: 'StockLevelChanged' } },
    ])
    const args = ['shop.stock.v1', '--from', 'beginning', '--to-end', '--key', key]
    const [unknown] = await lines(tail, ...args)
    expect(unknown).toMatchObject({ problem: expect.stringContaining('299999'), bytes: value.toString('base64') })
    expect((await run(tail, ...args)).out).toContain(`bytes ${value.toString('hex')}`)
    await sql`insert into learned_schema (schema_id, subject, schema)
      values (299999, ${entry.subject}, ${JSON.stringify(entry.schema)})`.execute(held.databases.order.query)
    expect((await lines(tail, ...args))[0]).toMatchObject({ schemaId: 299_999, data: { sku: key, available: 2 } })
  })

  test('refuses topics and times that are none', async () => {
    await expect(run(tail, 'shop.orders')).rejects.toThrow(UsageError)
    await expect(run(tail, 'shop.order.v1', '--from', 'yesterday')).rejects.toThrow('TIME is ISO 8601')
    await expect(run(tail, 'shop.order.v1', '-n', '0')).rejects.toThrow(UsageError)
  })
})

describe('an order that waits', () => {
  test(
    'because inventory is stopped: explain, status and lag name it, and what to start',
    async () => {
      const sku = await stock(shop, staff, 10)
      await stop('inventory')
      const id = await placed(sku)
      const story = await verdictIs(id, 'stuck', 'inventory has not handled it: it is the next in its partition')
      expect(story.verdict.text).toMatch(/OrderPlaced #1 was written at .*The inventory service is away/s)
      expect(story.verdict.run[0]).toContain('start the inventory service')
      expect(await run(explain, id)).toMatchObject({ code: 1, out: expect.stringContaining('pending, stuck') })
      const { code, out } = await run(status)
      expect(code).toBe(1)
      expect(out).toMatch(/✗ inventory is away .*\n.*→ start it/)
      const found = await json(lag, '--group', 'inventory')
      expect(found).toEqual([
        {
          group: 'inventory',
          topic: 'shop.order.v1',
          partition: partitionOf(id, 6),
          position: expect.any(String),
          end: expect.any(String),
          messages: '1',
          seconds: expect.any(Number),
          hidden: '0',
          hiddenSeconds: 0,
          standsBefore: null,
        },
      ])
      start('inventory')
      await decided(id)
      await verdictIs(id, 'waiting', 'staff have to ship it')
    },
    3 * minutes,
  )

  test(
    'because its OrderPlaced is dead: explain shows each attempt and what waits behind it; redriven after the fix it ends right',
    async () => {
      const sku = await stock(shop, staff, 10)
      const { query } = held.databases.inventory
      await sql`
      create function refuse() returns trigger language plpgsql as $$ begin raise exception 'the shelf is on fire'; end $$`.execute(
        query,
      )
      await sql
        .raw(`create trigger refuse before insert on reservation for each row
      when (new.lines::text like '%${sku}%') execute function refuse()`)
        .execute(query)
      const id = await placed(sku)
      await verdictIs(id, 'working', /inventory failed to handle it .*the shelf is on fire/)
      const story = await eventually(
        'it to be dead',
        async () => {
          await run(deadLetters, 'retry', '--key', id, '--no-wait')
          const told = await json(explain, id)
          return told.verdict.state === 'stuck' && told
        },
        { ...patience, everyMs: 100 },
      )
      const [handling] = story.events[0].handledBy
      expect(story.verdict.text).toContain('dead in inventory')
      expect(story.verdict.text).toContain('the shelf is on fire')
      expect(story.verdict.run[0]).toBe(`npm run shop -- dead-letters show inventory/${handling.parked.id}`)
      expect(handling).toMatchObject({ state: 'dead', parked: { attempts: 8 } })
      expect(handling.parked.history).toHaveLength(8)
      const found = await run(status)
      expect(found.code).toBe(1)
      expect(found.out).toMatch(/✗ inventory: 1 message is dead.*\n.*dead-letters list --group inventory/)

      await persistently(shop, 'POST', `/v1/orders/${id}/cancel`, {
        token: customer.token,
        body: { reason: 'too late' },
      })
      const behind = await eventually(
        'the cancellation to wait behind it',
        async () => {
          const told = await json(explain, id)
          const cancelled = told.events.find(({ type }: { type: string }) => type === 'OrderCancelled')
          return cancelled?.handledBy.find(({ state }: { state: string }) => state === 'behind')
        },
        patience,
      )
      expect(behind).toMatchObject({ group: 'inventory', behind: { id: handling.parked.id, dead: true } })

      const ref = `inventory/${handling.parked.id}`
      const listed = await run(
        deadLetters,
        'list',
        '--group',
        'inventory',
        '--type',
        'OrderPlaced',
        '--error',
        'ON FIRE',
      )
      expect(listed.out).toMatch(
        new RegExp(`${ref} +dead +shop\\.order\\.v1 +OrderPlaced +${id} +8 +1 +.*the shelf is on fire`),
      )
      expect((await run(deadLetters, 'list', '--older-than', '1d', '--key', id)).out).toBe('None.')
      const shown = await run(deadLetters, 'show', String(handling.parked.id), '--group', 'inventory')
      for (const words of [
        `"orderId": "${id}"`,
        'ce_type',
        '8. ',
        'the shelf is on fire',
        'retry by',
        `redrive ${ref}`,
      ])
        expect(shown.out).toContain(words)

      const plan = ['redrive', '--all', '--error', 'on fire', '--dry-run', '--json']
      expect(await json(deadLetters, ...plan)).toMatchObject({
        keys: [{ group: 'inventory', key: id, ids: [String(handling.parked.id)], followers: 1, stopsAt: null }],
      })
      expect(await json(deadLetters, 'show', ref)).toMatchObject({ state: 'dead', attempts: 8 })
      await expect(run(deadLetters, 'redrive', ref, 'inventory/999999')).rejects.toThrow('Nothing was changed')
      await expect(run(deadLetters, 'retry', ref)).rejects.toThrow(`${ref} is dead`)

      await sql`drop trigger refuse on reservation`.execute(query)
      await sql`drop function refuse`.execute(query)
      const mended = await run(
        deadLetters,
        'redrive',
        '--all',
        '--error',
        'on fire',
        '--actor',
        'ada',
        '--reason',
        'put out',
      )
      expect(mended).toEqual({ code: 0, out: '1 message redriven: handled 1.' })
      const { events } = await verdictIs(id, 'final', 'cancelled')
      const audit = expect.objectContaining({ action: 'redrive', actor: 'ada', reason: 'put out' })
      expect(events[0].handledBy[0].parked.actions.at(-1)).toEqual(audit)
      const { state, actions } = await json(deadLetters, 'show', ref)
      expect({ state, last: actions.at(-1) }).toEqual({ state: 'handled', last: audit })
      expect(await stockOf(shop, staff, sku)).toEqual({ sku, onHand: 10, reserved: 0, available: 10 })
      expect((await run(deadLetters, 'list', '--key', id)).out).toBe('None.')
    },
    3 * minutes,
  )

  test('a dead one that is older than an inbox remembers may have taken effect: redrive --all leaves it out, not by its ID', async () => {
    const key = randomUUID()
    const { rows } = await sql<{ id: bigint }>`
      insert into parked_message (event_id, topic, partition, "offset", key, headers, state, attempts, next_attempt_at)
      values ('01890000-0000-7000-8000-000000000001', 'shop.order.v1', 0, 999999, ${key}, '{"ce_type": "OrderCancelled"}', 'dead', 1, null)
      returning id`.execute(held.databases.inventory.query)
    const ref = `inventory/${rows[0]?.id}`
    const { code, out } = await run(deadLetters, 'redrive', '--key', key, '--reason', 'all of them')
    expect({ code, lines: out.split('\n') }).toMatchObject({
      code: 0,
      lines: [
        '0 messages redriven.',
        expect.stringContaining('1 message left out, whose events were older than 21 days'),
        expect.stringContaining('by its ID:'),
        `  ${ref}`,
      ],
    })
    const dry = ['--dry-run', '--reason', 'looked at']
    expect(await json(deadLetters, 'redrive', '--all', ...dry)).toMatchObject({ keys: [], doubtful: [ref] })
    expect(await json(deadLetters, 'redrive', ref, ...dry)).toMatchObject({ keys: [{ key }], doubtful: [] })
    expect((await run(deadLetters, 'discard', ref, '--reason', 'long ago')).code).toBe(0)
  })

  test(
    'because a mail cannot be sent: explain names the mail and the mail server',
    async () => {
      const { SMTP_PORT: smtpPort, MAIL_UI_PORT: uiPort } = shop.ports
      await shop.mail.close()
      const id = await placed(await stock(shop, staff, 10))
      await decided(id)
      const story = await verdictIs(id, 'stuck', /The mail "confirmed", asked for at .* waits to be sent/)
      expect(story.verdict.run[0]).toContain('SMTP server')
      const { problems } = await json(status)
      expect(problems.map(({ what }: { what: string }) => what).join()).toContain('notification is degraded')
      mails = await startMailSink({ smtpPort, uiPort })
      await verdictIs(id, 'waiting', 'staff have to ship it')
    },
    3 * minutes,
  )

  test(
    'a part that is away is named, and the others are told all the same',
    async () => {
      const id = await placed(await stock(shop, staff, 10))
      await decided(id)
      const url = shop.databaseUrl('notification').replace(/:\d+\//, ':1/')
      const elsewhere = await withEnvironment(
        {
          KAFKA_BROKERS: shop.kafka.brokers.join(),
          ...settingsOf('DATABASE_URL', (owner) => shop.databaseUrl(owner)),
          NOTIFICATION_DATABASE_URL: url,
        },
        async () => ({ story: await json(explain, id), state: await run(status) }),
      )
      expect(elsewhere.story.notAsked).toEqual([expect.stringContaining('the notification database cannot be asked')])
      expect(elsewhere.story.events).toHaveLength(3)
      expect(elsewhere.state).toMatchObject({ code: 1, out: expect.stringMatching(/notification +cannot be asked/) })
    },
    2 * minutes,
  )
})

let mails: { mails(): ReturnType<Shop['mail']['mails']>; close(): Promise<void> } | undefined
const mailsNow = () => (mails ?? shop.mail).mails()
afterAll(() => mails?.close())

async function withEnvironment<R>(env: Record<string, string>, work: () => Promise<R>): Promise<R> {
  const before = { ...process.env }
  Object.assign(process.env, env)
  try {
    return await work()
  } finally {
    for (const name of Object.keys(env)) delete process.env[name]
    Object.assign(process.env, before)
  }
}

test(
  'republish tells the present state again: a replica that had missed it knows it, the others are not disturbed',
  async () => {
    const sku = await stock(shop, staff, 10)
    await decided(await placed(sku))
    const known = async () =>
      (await held.databases.order.query
        .selectFrom('product')
        .selectAll()
        .where('sku', '=', sku)
        .executeTakeFirst()) as {
        sequence: bigint
        price_amount: bigint
      }
    await held.databases.order.query
      .updateTable('product')
      .set({ sequence: 0n, price_amount: 1n })
      .where('sku', '=', sku)
      .execute()
    await verdictIs(sku, 'stuck', 'nothing is on its way')
    expect((await run(republish, 'shop.product.v1', '--key', sku, '--dry-run')).out).toContain('Nothing was written')
    expect((await run(republish, 'shop.product.v1', '--key', sku)).code).toBe(0)
    await eventually(
      'the replica',
      async () => {
        const { sequence, price_amount } = await known()
        return sequence === 1n && price_amount === 1_000n
      },
      patience,
    )
    await verdictIs(sku, 'final', 'knows the latest state')
    const mailsBefore = mailsNow().length
    expect((await run(republish, 'user', '--all')).out).toMatch(/shop\.user\.v1 +\d+ events/)
    await eventually(
      'it to be published and read',
      async () => {
        const { groups, databases } = await json(status)
        return (
          groups.every(({ answer }: { answer: { messages: string } }) => answer.messages === '0') &&
          databases.every(({ answer }: { answer: { outbox: number } }) => answer.outbox === 0)
        )
      },
      patience,
    )
    expect(mailsNow()).toHaveLength(mailsBefore)
    await expect(run(republish, 'shop.order.v1', '--all')).rejects.toThrow('tell what happened, not a state')
    await expect(run(republish, 'shop.product.v1', '--key', 'no-such-sku')).rejects.toThrow(Refusal)
    await expect(run(republish, 'shop.product.v1')).rejects.toThrow(UsageError)
  },
  2 * minutes,
)

test('a service that runs is neither rewound nor caught up', async () => {
  await isReady('inventory')
  await expect(run(rewind, 'inventory', '--to', 'beginning')).rejects.toThrow(/member.*stop the inventory service/)
  await expect(run(catchUp, 'inventory')).rejects.toThrow('The inventory service runs')
  await expect(run(rewind, 'gateway', '--to', 'beginning')).rejects.toThrow(UsageError)
  await expect(run(rewind, 'order', '--to', 'soon')).rejects.toThrow(UsageError)
  await expect(run(rewind, 'bridge-mirror', '--to', 'inbox')).rejects.toThrow(UsageError)
  await expect(run(rewind, 'bridge-mirror', '--to', 'beginning')).rejects.toThrow('There is no bridge that consumes as')
  // As if its service had run with it, and were stopped.
  await sql`insert into bridge (name, direction, kind, events) values ('mirror', 'send', 'redis', '{OrderPlaced}')`.execute(
    held.databases.bridge.query,
  )
  const { out } = await run(rewind, 'bridge-mirror', '--to', 'beginning')
  expect(out).toMatch(/bridge-mirror reads up to .* again once it starts; its broker gets again what it has had/)
  await sql`delete from bridge where name = 'mirror'`.execute(held.databases.bridge.query)
})

describe('a database that was restored from a backup', () => {
  test.each(movable)(
    '%s: all orders end as their events say, stock is right, one mail for each cause',
    async (service) => {
      await isReady(service)
      const before = await stock(shop, staff, 20)
      const early = await Promise.all(Array.from({ length: 3 }, () => placed(before)))
      await Promise.all(early.map(decided))
      await stop(service)
      await plantPublishedRow(service, early[0] as string)
      await backUp(service)
      start(service)
      await isReady(service)

      // Since the backup: pieces that only an adjustment brought, orders that are one too many, each fate once.
      const scarce = await stock(shop, staff, 5)
      await persistently(shop, 'POST', `/v1/products/${before}/stock-adjustments`, {
        token: staff,
        body: { delta: 7, reason: 'found' },
      })
      const contested = await Promise.all(Array.from({ length: 8 }, () => placed(scarce)))
      const fates = Object.fromEntries(await Promise.all(contested.map(async (id) => [id, await decided(id)])))
      const confirmed = contested.filter((id) => fates[id] === 'confirmed')
      expect(confirmed).toHaveLength(5)
      const [shipped, cancelled] = confirmed as [string, string]
      const parcel = { carrier: 'Post', trackingNumber: 'T-1' }
      await persistently(shop, 'POST', `/v1/orders/${shipped}/shipment`, { token: staff, body: parcel })
      await persistently(shop, 'POST', `/v1/orders/${cancelled}/cancel`, { token: staff, body: { reason: 'a test' } })
      const ofEarly = early[1] as string
      await persistently(shop, 'POST', `/v1/orders/${ofEarly}/cancel`, { token: staff, body: { reason: 'a test' } })
      await eventually(
        'it all to be handled',
        async () => (await run(status)).code === 0 && (await isQuiet()),
        patience,
      )
      const wanted = await outcomes([...early, ...contested])
      const levels = [await stockOf(shop, staff, before), await stockOf(shop, staff, scarce)]

      await stop(service)
      // Not yet handled, or not yet possible, when the database was lost.
      const late = service === 'order' ? [] : await Promise.all([placed(before), placed(before)])
      await restore(service)
      await run(catchUp, service, '--dry-run')
      const { code, out } = await run(catchUp, service)
      expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining('had been published since the backup') })
      expect(out).toContain('Cannot be brought back')
      start(service)
      await isReady(service)
      await Promise.all(late.map(decided))
      await eventually(
        'it all to be handled again',
        async () => (await run(status)).code === 0 && (await isQuiet()),
        patience,
      )

      expect(await outcomes([...early, ...contested])).toEqual(wanted)
      expect([await stockOf(shop, staff, before), await stockOf(shop, staff, scarce)]).toEqual(
        levels.map((level) =>
          level.sku === before
            ? { ...level, reserved: level.reserved + late.length, available: level.available - late.length }
            : level,
        ),
      )
      expect(await imbalances()).toEqual([])
      expect(await parkedAnywhere()).toEqual([])
      const { checks } = await verify(held, { settleMs: 2_000 })
      expect(checks.flatMap(({ findings }) => findings)).toEqual([])
      const sent = mailsNow()
      for (const id of [...early, ...contested, ...late])
        expect([id, sent.filter(({ text }) => text.includes(id)).length]).toEqual([id, mailsAbout(sent, id).length])
      for (const id of contested)
        await verdictIs(id, fates[id] === 'confirmed' && id !== cancelled ? 'waiting' : 'final', /./)
    },
    5 * minutes,
  )
})

test(
  'catch-up tells of an event that nobody can read, and brings back the others',
  async () => {
    await stop('notification')
    const headers = { ce_source: '/shopstream/notification', ce_type: 'NotificationSent' }
    await held.bus.publish([
      { topic: 'shop.notification.v1', partition: 0, key: randomUUID(), value: Buffer.from('none'), headers },
    ])
    const { code, out } = await run(catchUp, 'notification', '--dry-run')
    expect(code).toBe(0)
    expect(out).toMatch(/Cannot be brought back: what shop\.notification\.v1\/0@\d+ said of .*which nobody can read/)
    start('notification')
  },
  2 * minutes,
)

/** What an order has come to, for those who see it. */
async function outcomes(ids: string[]) {
  const all = await ordersOf(shop, staff)
  return Promise.all(
    ids.map(async (id) => {
      const { body } = await persistently(shop, 'GET', `/v1/orders/${id}`, { token: staff })
      const listed = all.some((one) => one.id === id)
      const about = mailsAbout(mailsNow(), id).map(({ subject }) => subject)
      const { status: state, total, reason, history } = body
      return {
        id,
        listed,
        state,
        total,
        reason,
        history: history.map((step: { status: string }) => step.status),
        mails: about.sort(),
      }
    }),
  )
}

async function isQuiet(): Promise<boolean> {
  const { groups, databases, mails: waiting } = await json(status)
  return (
    groups.every(({ answer }: { answer: { messages: string } }) => answer.messages === '0') &&
    databases.every(({ answer }: { answer: { outbox: number } }) => answer.outbox === 0) &&
    waiting.answer.queued === 0
  )
}

/** Skus of which the invariants of architecture.md do not hold. */
async function imbalances(): Promise<unknown[]> {
  const { rows } = await sql`
    with line as (
      select state, line->>'sku' as sku, (line->>'quantity')::integer as quantity
      from reservation, jsonb_array_elements(lines) as line
    )
    select sku, on_hand, reserved from stock
    where reserved <> (select coalesce(sum(quantity), 0) from line where line.sku = stock.sku and state = 'reserved')
      or on_hand <> (select sum(delta) from stock_adjustment as made where made.sku = stock.sku)
        - (select coalesce(sum(quantity), 0) from line where line.sku = stock.sku and state = 'sold')`.execute(
    held.databases.inventory.query,
  )
  return rows
}

async function parkedAnywhere(): Promise<unknown[]> {
  const perOwner = movable.map(async (owner) => {
    const { rows } = await sql`select topic, key, error from parked_message where state in ('waiting', 'dead')`.execute(
      held.databases[owner].query,
    )
    return rows
  })
  return (await Promise.all(perOwner)).flat()
}

/** Puts a row into the outbox that the topic has already: what a backup holds that was made before the relay deleted it. */
async function plantPublishedRow(service: Owner, orderId: string): Promise<void> {
  const topics: Partial<Record<Owner, string>> = {
    order: 'shop.order.v1',
    inventory: 'shop.reservation.v1',
    notification: 'shop.notification.v1',
  }
  const topic = topics[service] ?? ''
  const isKeyed = service !== 'notification'
  const [event] = await lines(
    tail,
    topic,
    '--from',
    'beginning',
    '--to-end',
    '-n',
    '1',
    ...(isKeyed ? ['--key', orderId] : []),
  )
  await held.bus.read({
    topics: [topic],
    partitions: [{ topic, partition: event.partition, from: BigInt(event.offset) }],
    toEnd: true,
    async handle(messages) {
      const original = messages.find(({ offset }) => String(offset) === event.offset)
      if (!original) return
      const { partition, key, value, headers } = original
      const texts = Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, String(text)]))
      await sql`insert into outbox (topic, partition, key, value, headers)
        values (${topic}, ${partition}, ${key}, ${value}, ${JSON.stringify(texts)})`.execute(
        held.databases[service].query,
      )
    },
  })
}

/** The databases are of the stack's superuser to copy; nobody may be connected meanwhile. */
async function asAdmin(work: (query: Database<unknown>['query']) => Promise<void>): Promise<void> {
  await held.close()
  const logger = testLogger()
  const admin = createDatabase({ url: shop.postgres.url, poolSize: 1, applicationName: 'test', logger })
  try {
    await work(admin.query)
  } finally {
    await admin.close()
    held = await reach(findPlace())
  }
}

const backUp = (service: Owner) =>
  asAdmin(async (query) => {
    await sql.raw(`create database backup_${service} template shopstream_${service}`).execute(query)
  })

const restore = (service: Owner) =>
  asAdmin(async (query) => {
    const name = `shopstream_${service}`
    await sql.raw(`drop database ${name} with (force)`).execute(query)
    await sql.raw(`create database ${name} template backup_${service} owner ${name}`).execute(query)
    await sql.raw(`revoke all on database ${name} from public`).execute(query)
  })

describe('what others write into our topics', () => {
  const topic = 'shop.order.v1'
  const partition = 3
  let foreign: ForeignProducer
  beforeAll(async () => {
    foreign = openForeignProducer(shop.kafka.brokers)
    for (const service of movable) await isReady(service)
  })
  afterAll(() => foreign?.close())

  /** 20 MiB in 20 KiB. */
  const bomb = () =>
    encodeBatch({ codec: 1, compress: gzipSync, records: [{ key: 'bomb', value: Buffer.alloc(20_971_520) }] })

  const write = (batch: Buffer, to = topic) => foreign.write(shop.topicPrefix + to, partition, batch)

  /** An order whose events are in the partition. */
  async function placedInPartition(): Promise<string> {
    const sku = await stock(shop, staff, 100)
    for (;;) {
      const id = await placed(sku)
      if (partitionOf(id, 6) === partition) return id
    }
  }

  const stands = (...groups: string[]) =>
    eventually(
      `${groups} to stand before something`,
      async () => {
        const met: { service: string }[] = JSON.parse((await run(unreadable, 'list', '--json')).out)
        return groups.every((group) => met.some(({ service }) => service === group)) && met
      },
      patience,
    )

  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the command prints
  const problems = async (): Promise<any[]> => (await json(status)).problems

  const foundByVerify = async (settleMs = 1_500) => {
    const { checks } = await verify(held, { settleMs })
    return checks.flatMap(({ findings }) => findings.map(({ check, message }) => `${check}: ${message}`))
  }

  test(
    'a bomb: every command names it and goes on; an operator steps over it for both groups that stand there',
    async () => {
      await write(bomb())
      const id = await placedInPartition()
      const met = await stands('inventory', 'notification')
      const [{ firstOffset }] = met as unknown as [{ firstOffset: string }]
      const place = `${topic}/${partition}@${firstOffset}`

      const told = await eventually(
        'status to tell it',
        async () => (await problems()).find(({ what }) => what.includes('cannot be read')),
        patience,
      )
      expect(told).toEqual({
        what: expect.stringMatching(
          new RegExp(
            `^${topic}/${partition} cannot be read at offset ${firstOffset}: .*; inventory, notification(, [a-z]+)* stand before it since `,
          ),
        ),
        run: `npm run shop -- unreadable show ${place}`,
        runbook: 'docs/runbooks/unreadable-records.md',
      })
      const others = (await problems()).map(({ what, run: next }) => `${what} ${next}`).join('\n')
      expect(others).not.toMatch(/start Kafka|is degraded|behind, by/)

      expect(await json(lag, '--group', 'inventory')).toMatchObject([{ topic, partition, standsBefore: place }])
      const story = await verdictIs(id, 'stuck', `its partition stands still, as ${place} cannot be read`)
      expect(story.verdict.run[0]).toBe(`npm run shop -- unreadable show ${place}`)
      const tailed = await lines(tail, topic, '--from', '1h', '--to-end', '--key', id)
      expect(tailed).toMatchObject([
        { unreadable: expect.any(String), topic, partition, firstOffset },
        { type: 'OrderPlaced', key: id },
      ])
      expect(await foundByVerify()).toEqual([
        expect.stringMatching(
          `^unreadable-records: ${place} cannot be read: .*inventory stands before it, notification stands`,
        ),
      ])

      const file = join(opened.home, 'bytes.log')
      const shown = await run(unreadable, 'show', place, '--out', file)
      expect(shown.out).toMatch(/1 record, gzip/)
      expect(shown.out).toMatch(/bytes written to/)
      expect(shown.out).not.toMatch(/as they came/)
      expect(readFileSync(file).subarray(61)).toEqual(bomb().subarray(61))
      await expect(run(unreadable, 'show', place, '--out', file)).rejects.toThrow('file already exists')
      const elsewhere = `${topic}/${partition}@99999`
      await expect(run(unreadable, 'step-over', elsewhere, '--reason', 'none')).rejects.toThrow(place)

      const decision = ['--reason', 'a load test', '--actor', 'ada']
      await expect(run(unreadable, 'step-over', place, '--service', 'user', ...decision)).rejects.toThrow(
        /inventory, notification(, [a-z]+)* stand/,
      )
      await write(bomb())
      const stepped = await run(unreadable, 'step-over', place, ...decision)
      expect(stepped).toMatchObject({
        code: 0,
        out: expect.stringMatching(/inventory steps over.*\nnotification steps over/),
      })
      const [, next] =
        /inventory stands again, before (\S+): npm run shop -- unreadable show \1/.exec(stepped.out) ?? []
      await stands('inventory', 'notification')
      await run(unreadable, 'step-over', next as string, ...decision)
      await decided(id)
      await expect(run(unreadable, 'step-over', place, ...decision)).rejects.toThrow(
        /stepped over .* by ada: a load test/,
      )
      expect((await run(unreadable, 'list')).out).toBe('None.')
      expect((await run(unreadable, 'list', '--all')).out).toMatch(/inventory\/\d+ .* by ada: a load test/)
      await eventually('all to be well', async () => (await run(status)).code === 0, patience)
      const both = /^unreadable-records: .*inventory stepped over .* by ada: a load test, notification stepped over/
      expect(await foundByVerify()).toEqual([expect.stringMatching(both), expect.stringMatching(both)])
    },
    3 * minutes,
  )

  test(
    'an open transaction: what it hides is told as such, and nothing is called lost; nobody is caught up past it',
    async () => {
      const hiding = await foreign.transaction(`${shop.topicPrefix}shop.reservation.v1`)
      await hiding.send([{ partition, value: 'begun' }])
      const id = await placedInPartition()
      const story = await verdictIs(id, 'stuck', 'cannot be seen behind a transaction that has been open for')
      expect(story.missing).toEqual(['event #1 of shop.reservation.v1'])
      const [behind] = await json(lag, '--group', 'order')
      expect(behind).toMatchObject({ topic: 'shop.reservation.v1', partition, hidden: behind.messages })
      expect(Number(behind.hidden)).toBeGreaterThan(1)
      const tailed = ['shop.reservation.v1', '--from', '1h', '--to-end', '--type', 'none of ours']
      expect(await lines(tail, ...tailed)).toContainEqual({
        hidden: expect.stringMatching(/^\d+$/),
        topic: 'shop.reservation.v1',
        partition,
        firstOffset: behind.position,
        lastOffset: String(Number(behind.end) - 1),
        seconds: expect.any(Number),
      })
      expect((await run(tail, ...tailed)).out).toContain('cannot be seen behind a transaction that has been open for')
      expect((await foundByVerify()).filter((found) => !found.includes('stepped over'))).toEqual([
        expect.stringMatching(
          /^unreadable-records: shop\.reservation\.v1\/3@\d+: \d+ messages wait behind a transaction/,
        ),
      ])
      await stop('inventory')
      await expect(run(catchUp, 'inventory', '--dry-run')).rejects.toThrow('hides the end of shop.reservation.v1/3')
      await hiding.abort()
      await decided(id)

      // A marker ends the partition now: the group is rewound in front of it, and comes to its end again.
      await stop('order')
      const { code } = await run(rewind, 'order', '--to', 'inbox')
      expect(code).toBe(0)
      for (const service of ['order', 'inventory']) start(service)
      for (const service of ['order', 'inventory']) await isReady(service)
      await eventually('all to be well', async () => (await run(status)).code === 0 && (await isQuiet()), patience)
      expect((await foundByVerify()).filter((found) => !found.includes('stepped over'))).toEqual([])
    },
    3 * minutes,
  )

  test(
    "what cannot be read of a service's own topic: catch-up is refused until somebody has looked; a lost decision is told",
    async () => {
      await write(bomb(), 'shop.reservation.v1')
      await stands('order')
      await stop('inventory')
      const dry = await run(catchUp, 'inventory', '--dry-run')
      expect(dry.out).toMatch(/Cannot be brought back: what events said in shop\.reservation\.v1\/3@\d+ cannot be read/)
      await expect(run(catchUp, 'inventory')).rejects.toThrow(/Nothing was changed: .*--despite-unreadable/)
      // As after a restore: its database knows nothing of what was stepped over.
      await sql`delete from unreadable_batch`.execute(held.databases.inventory.query)
      expect(await run(catchUp, 'inventory', '--despite-unreadable')).toMatchObject({ code: 0 })
      const rewound = await run(rewind, 'inventory', '--to', 'beginning')
      expect(rewound.out).toMatch(
        /It will stand before shop\.order\.v1\/3@\d+, which cannot be read \(others: stepped over/,
      )
      start('inventory')
      await stands('inventory')
      await stands('order', 'inventory')
      await eventually(
        'all to be well, once all of it is stepped over',
        async () => {
          for (const { topic: of, partition: at, firstOffset } of await json(unreadable, 'list'))
            await run(unreadable, 'step-over', `${of}/${at}@${firstOffset}`, '--reason', 'again', '--actor', 'ada')
          return (await run(status)).code === 0
        },
        patience,
      )
    },
    3 * minutes,
  )

  test(
    'a forged end of an order hides neither what comes behind it, nor that it is dead',
    async () => {
      const id = await placedInPartition()
      expect(await decided(id)).toBe('confirmed')
      const forged = { ce_id: randomUUID(), ce_type: 'OrderCancelled', ce_sequence: '3', ce_source: '/trial' }
      const record = (headers: [string, string][]) => encodeBatch({ records: [{ key: id, value: 'none', headers }] })
      await write(record(Object.entries(forged)))
      await write(record([]))
      const blocking = async () => {
        const { events, verdict } = await json(explain, id)
        const dead = events.map(
          ({ type, handledBy }: { type?: string; handledBy: { parked?: { blocks: boolean } }[] }) => [
            type ?? 'none',
            handledBy[0]?.parked?.blocks,
          ],
        )
        return { state: verdict.state, ...Object.fromEntries(dead) }
      }
      const told = { state: 'stuck', OrderCancelled: true, none: false }
      await eventually('both to be dead', async () => expect(await blocking()).toMatchObject(told) === undefined)
      await persistently(shop, 'POST', `/v1/orders/${id}/shipment`, {
        token: staff,
        body: { carrier: 'DHL', trackingNumber: 'JD014600003SE' },
      })
      const types = async () => (await json(explain, id)).events.map(({ type = 'none' }: { type?: string }) => type)
      await eventually('what comes behind it', async () => (await types()).includes('OrderShipped'))
      await run(deadLetters, 'discard', '--key', id, '--reason', 'forged')
      expect(await types()).toEqual(expect.arrayContaining(['OrderCancelled', 'OrderShipped', 'none']))
    },
    minutes,
  )

  test(
    'foreign records are told as what they are, and no terminal obeys them',
    async () => {
      const eventId = randomUUID()
      const headers: [string, string | null][] = [
        ['ce_id', eventId],
        ['ce_type', 'OrderPlaced'],
        ['ce_source', 'urn:acme:billing/ledger'],
        ['without', null],
        ['empty', ''],
        ['title\u001b]0;x\u0007', '\u001b[2J'],
      ]
      const keys = Array.from({ length: 100 }, (_, n) => `stranger-${n}`)
      const stranger = keys.find((key) => partitionOf(key, 6) === partition) as string
      const wholeHeaders: [string, string][] = [
        ['ce_id', randomUUID()],
        ['ce_type', 'OrderPlaced'],
        ['ce_time', new Date().toISOString()],
        ['ce_sequence', '1'],
      ]
      const records = [
        { key: 'k\u001b[2J', value: 'none', headers },
        { key: Buffer.from([255, 0]), value: null, headers: [['ce_type', null]] as [string, null][] },
        { key: null, value: 'none' },
        { key: '', value: 'none', headers: [['ce_type', '']] as [string, string][] },
        { key: stranger, value: Buffer.from([0, 0, 4, 0x93, 0xdd, 0]), headers: wholeHeaders },
      ]
      await write(encodeBatch({ codec: 1, compress: gzipSync, records }))
      const story = await eventually(
        'both groups to have given up on it',
        async () => {
          const told = await json(explain, 'event', eventId).catch(() => undefined)
          const states = told?.event.handledBy.map(({ state }: { state: string }) => state)
          return states?.length > 0 && states.every((state: string) => state === 'dead') && told
        },
        patience,
      )
      expect(story.event).toMatchObject({
        topic,
        foreignSource: 'urn:acme:billing/ledger',
        headers: { without: null, empty: '' },
        handledBy: [{ group: 'inventory', state: 'dead' }],
      })
      expect(story.event.source).toBeUndefined()
      const printed = [
        await run(explain, 'event', eventId).then(({ out }) => out),
        await run(tail, topic, '--from', '1h', '--to-end').then(({ out }) => out),
        await run(deadLetters, 'list').then(({ out }) => out),
        await run(deadLetters, 'show', `inventory/${story.event.handledBy[0].parked.id}`).then(({ out }) => out),
        await run(status).then(({ out }) => out),
      ].join('\n')
      expect(printed).toContain('by urn:acme:billing/ledger (no service of the shop)')
      for (const words of [
        'without  ',
        'no value',
        'a message without a type',
        'a key of bytes',
        'an empty key',
        'no key',
      ])
        expect(printed).toContain(words)
      const colour = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g')
      expect(printed.replaceAll(colour, '')).not.toMatch(/(?![\n\t])\p{Cc}/u)
      expect(printed).not.toMatch(/was decided|of ledger/)
      expect((await run(deadLetters, 'discard', '--all', '--reason', 'foreign', '--actor', 'ada')).code).toBe(0)

      // A schema that no registry of ours will ever have: it waits for as long as nobody decides.
      const waiting = ['--state', 'waiting', '--error', 'schema 299997 is not known here']
      const [letter, ...more] = await json(deadLetters, 'list', ...waiting)
      expect([letter, more]).toMatchObject([{ group: 'inventory', key: stranger, waitsForSchema: '299997' }, []])
      expect((await run(deadLetters, 'show', letter.ref)).out).toContain(`dead-letters discard ${letter.ref} --reason`)
      const discarded = await run(deadLetters, 'discard', '--all', ...waiting, '--reason', 'no schema of ours')
      expect(discarded).toMatchObject({ code: 0, out: '1 message discarded.' })
      expect(await json(deadLetters, 'list')).toEqual([])
    },
    2 * minutes,
  )
})

test(
  'topics are given more partitions while all runs: stories of keys that move are whole, and verify finds nothing new',
  async () => {
    const sku = await stock(shop, staff, 100)
    const ids = await Promise.all(Array.from({ length: 8 }, () => placed(sku)))
    await Promise.all(ids.map(decided))
    const before = new Set(
      (await verify(held, { settleMs: 1_500 })).checks.flatMap(({ findings }) =>
        findings.map(({ message }) => message),
      ),
    )
    const dry = await run(grow, 'shop.order.v1', '--partitions', '8', '--dry-run')
    expect(dry).toMatchObject({ code: 0, out: expect.stringMatching(/6 partitions, to have 8.*Nothing was changed/s) })
    for (const topic of ['shop.order.v1', 'shop.user.v1'])
      expect(await run(grow, topic, '--partitions', '8')).toMatchObject({ code: 0 })
    for (const id of ids) await persistently(shop, 'POST', `/v1/orders/${id}/cancel`, { token: staff, body: {} })
    for (const id of [...ids, await placed(sku)]) await decided(id)
    for (const id of ids)
      await eventually(
        'the whole story',
        async () => {
          const { events, missing } = await json(explain, id)
          const types = events.map(({ type }: { type: string }) => type)
          return missing.length === 0 && types.includes('OrderPlaced') && types.includes('OrderCancelled')
        },
        patience,
      )
    await expect(run(grow, 'shop.order.v1', '--partitions', '7')).rejects.toThrow('can have no fewer')
    await expect(run(grow, 'shop.schema.v1', '--partitions', '8')).rejects.toThrow("comes from no service's outbox")
    await eventually(
      'verify to find nothing new',
      async () => {
        const { checks } = await verify(held, { settleMs: 1_500 })
        return checks.flatMap(({ findings }) => findings).every(({ message }) => before.has(message))
      },
      patience,
    )
  },
  3 * minutes,
)

test('each has help, and bad usage is told', async () => {
  const commands = {
    archive,
    grow,
    status,
    explain,
    lag,
    tail,
    'dead-letters': deadLetters,
    unreadable,
    republish,
    rewind,
  }
  for (const [name, command] of Object.entries({ ...commands, 'catch-up': catchUp })) {
    const { usage } = await import(`../../operations/${name}.ts`)
    expect(usage).toMatch(new RegExp(`^Usage: npm run shop -- ${name}`))
    expect(usage).toContain('\n\nWorks on the local shop') // a paragraph of its own
    await expect(run(command, '--no-such-option')).rejects.toThrow(/no-such-option/)
  }
})

test('of the program: help, and 2 for bad usage', () => {
  const call = (...args: string[]) =>
    spawnSync(process.execPath, ['tools/src/commands/shop.ts', 'status', ...args], {
      cwd: repository,
      encoding: 'utf8',
    })
  expect(call('--help')).toMatchObject({ status: 0, stdout: expect.stringMatching('^Usage: npm run shop -- status') })
  const refused = call('--no-such-option')
  expect([refused.status, refused.stderr]).toEqual([
    2,
    expect.stringMatching(/^There is no option --no-such-option\.\n\nUsage: npm run shop -- status/),
  ])
})

test('bundled and alone in a folder, with nothing but its environment, the program says the same', async () => {
  const folder = temporaryFolder('operator')
  await buildService(join(repository, 'tools'), folder, 'src/commands/shop.ts')
  const { id } = (await order(shop, customer.token, await stock(shop, staff, 5))).body
  await eventually('its end', async () =>
    (await ordersOf(shop, customer.token)).every((one) => one.status !== 'pending'),
  )
  const databases = owners.map((owner) => [`${owner.toUpperCase()}_DATABASE_URL`, shop.databaseUrl(owner)])
  const env = {
    ...Object.fromEntries(databases),
    USER_DATABASE_URL: shop.databaseUrl('user'),
    KAFKA_BROKERS: shop.kafka.brokers.join(','),
    KAFKA_TOPIC_PREFIX: shop.topicPrefix,
  }
  const call = (...args: string[]) =>
    spawnSync(process.execPath, [join(folder, 'main.js'), ...args], { cwd: folder, env, encoding: 'utf8' })
  expect(call('explain', id)).toMatchObject({ stderr: '', stdout: expect.stringContaining('OrderConfirmed') })
  expect(call('dead-letters', 'list')).toMatchObject({ stderr: '' })
  expect(call('status').stdout).toContain('notification')
  const verified = JSON.parse(call('verify', '--json', '--settle', '1').stdout)
  expect(verified.checks.map(({ name }: { name: string }) => name)).toContain('lost-event')
  rmSync(folder, { recursive: true })
}, 120_000)
