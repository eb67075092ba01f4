import { randomUUID } from 'node:crypto'
import { kafkaIdentitySettings, readConfig, Type } from '@shopstream/config'
import { topics } from '@shopstream/events'
import { type Message, openKafkaBus } from '@shopstream/messaging'
import { type IncomingMessage, identityOf, readMessage } from '@shopstream/messaging/operations'
import { createLogger } from '@shopstream/observability'
import { eventually, type Mail } from '@shopstream/testing'
import { type Answer, type Call, type Customer, call } from '../client.ts'
import { paint } from '../log-lines.ts'
import type { RunningShop } from '../state-folder.ts'

const colour = process.stdout.isTTY === true && !process.env.NO_COLOR
export const say = (line = '') => void process.stdout.write(`${line}\n`)
export const bold = (text: string) => paint(1, text, colour)
export const grey = (text: string) => paint(90, text, colour)

/** What the demo needs to know of a shop. */
export type DemoShop = Pick<RunningShop, 'gatewayUrl' | 'mailUrl' | 'brokers' | 'topicPrefix' | 'staff'>

/** What is awaited of the events and the mails there are so far. */
export type Condition = (events: readonly Message[], mails: readonly Mail[]) => boolean

export const isEvent =
  (type: string, key: string): Condition =>
  (events) =>
    events.some((event) => event.type === type && event.key === key)

export const hasMail =
  (to: Customer, word: string): Condition =>
  (_, mails) =>
    mails.some((mail) => mail.to.some(({ address }) => address === to.email) && mail.subject.includes(word))

/** What a scene plays on: it tells its title, asks the shop, and shows which events and mails came of it. */
export interface Stage {
  readonly shop: DemoShop
  title(text: string): void
  /** Throws when the answer has another status. */
  request(method: string, path: string, expected: number, options?: Call): Promise<Answer>
  /** Shows new events and mails once each condition holds. */
  show(what: string, ...conditions: Condition[]): Promise<void>
  close(): Promise<void>
}

/** What others have written to the topics is no part of the play. */
function readEvent(message: IncomingMessage): Message[] {
  try {
    return [readMessage(message)]
  } catch {
    return []
  }
}

/** Watches the topics and the inbox of a running shop. */
export async function openStage(shop: DemoShop): Promise<Stage> {
  const logger = createLogger({ service: 'demo', level: 'silent', format: 'json' })
  const identity = identityOf(readConfig(Type.Object(kafkaIdentitySettings)))
  const { brokers, topicPrefix } = shop
  const bus = await openKafkaBus({ brokers, topicPrefix, identity, clientId: 'demo', logger })
  const begun = Date.now()
  const events: Message[] = []
  const consumer = bus.consume({
    group: `demo-${randomUUID()}`,
    topics: topics.map(({ name }) => name).filter((name) => name !== 'shop.schema.v1'),
    async handle(batch, partition) {
      events.push(...batch.messages.flatMap(readEvent).filter(({ time }) => time.getTime() >= begun))
      partition.done(batch.unreadable ? batch.unreadable.lastOffset + 1n : batch.next)
    },
  })
  const mailsNow = async () => (await (await fetch(`${shop.mailUrl}/email`)).json()) as Mail[]
  const shown = new Set((await mailsNow()).map(({ id }) => id))
  let scenes = 0

  return {
    shop,
    title(text) {
      scenes += 1
      say(`\n${bold(`${scenes}. ${text}`)}`)
    },
    request: (...request) => tell(shop, ...request),
    async show(what, ...conditions) {
      const patience = { timeoutMs: 20_000 }
      const mails = await eventually(
        what,
        async () => {
          const found = await mailsNow()
          return conditions.every((holds) => holds(events, found)) ? found : undefined
        },
        patience,
      )
      const isNew = ({ id }: { id: string }) => !shown.has(id)
      const fresh = events.filter(isNew).toSorted((a, b) => a.time.getTime() - b.time.getTime())
      const sent = (mails ?? []).filter(isNew)
      sayFirst(
        fresh,
        12,
        (event) => `${paint(36, 'event', colour)} ${event.type.padEnd(18)} ${grey(placeInWords(event))}`,
      )
      sayFirst(sent, 6, ({ subject, to }) => `${paint(33, 'mail', colour)}  ${subject} ${grey(`to ${to[0]?.address}`)}`)
      for (const { id } of [...fresh, ...sent]) shown.add(id)
    },
    async close() {
      await consumer.close()
      await bus.close()
    },
  }
}

function sayFirst<T>(all: readonly T[], limit: number, lineOf: (one: T) => string): void {
  for (const one of all.slice(0, limit)) say(`  ${lineOf(one)}`)
  if (all.length > limit) say(grey(`        … and ${all.length - limit} more`))
}

const placeInWords = ({ topic, partition, offset, key }: Message) => `${topic}/${partition} at ${offset}, key ${key}`

/** Asks the shop, and says so. */
async function tell(shop: DemoShop, method: string, path: string, expected: number, options: Call = {}) {
  const answer = await call(shop, method, path, options)
  say(`  ${method} ${path} ${paint(answer.status < 400 ? 32 : 31, String(answer.status), colour)}${summary(answer)}`)
  if (answer.status !== expected)
    throw new Error(`${method} ${path}: ${answer.status} instead of ${expected}: ${JSON.stringify(answer.body)}`)
  return answer
}

/** What of an answer a reader wants to see. */
function summary({ body }: Answer): string {
  const parts = ['status', 'code', 'reason', 'onHand', 'reserved', 'available', 'version'].filter(
    (name) => typeof body?.[name] === 'string' || typeof body?.[name] === 'number',
  )
  return parts.length === 0 ? '' : grey(` ${parts.map((name) => `${name} ${body[name]}`).join(', ')}`)
}
