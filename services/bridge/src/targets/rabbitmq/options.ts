import { type Static, Type } from '@shopstream/config'
import { type Claim, kindsOf, namedBy, type OfRow, strayNames, urlVariable, type Written } from '../target.ts'

const name = (description: string) => Type.String({ minLength: 1, maxLength: 255, description })

/** A queue that is declared; where one of that name is there with other arguments, the bridge waits and says so. */
const Queue = Type.Object(
  {
    name: name('the name of a queue'),
    type: Type.Optional(Type.Enum(['quorum', 'classic'], { description: 'quorum (default) or classic' })),
    bind: Type.Optional(
      Type.Array(name('a pattern of routing keys, such as order.#'), {
        minItems: 1,
        description: 'a list of patterns',
      }),
    ),
    maxLength: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'a whole number of messages, from which on it is full and takes no more',
      }),
    ),
    deliveryLimit: Type.Optional(
      Type.Integer({ minimum: 1, description: 'a whole number: how often a message comes before it is a dead letter' }),
    ),
    deadLetterQueue: Type.Optional(name('the queue of its dead letters')),
  },
  {
    additionalProperties: false,
    description: 'a queue with name, type, bind, maxLength, deliveryLimit, deadLetterQueue',
  },
)
export type QueueOptions = Static<typeof Queue>

export const outOptions = Type.Object(
  {
    url: urlVariable('RABBITMQ_URL'),
    exchange: Type.Optional(
      Type.String({
        maxLength: 255,
        description: "a topic exchange; default shop.NAME, with the name of the row; '' for Celery",
      }),
    ),
    routingKey: Type.Optional(
      name(
        'text that messages are routed by: {aggregate}, {event} and {key} stand for those; default {aggregate}.{event}',
      ),
    ),
    queues: Type.Optional(Type.Array(Queue, { description: 'a list of queues' })),
  },
  { additionalProperties: false },
)
export type OutletOptions = Static<typeof outOptions>

export const inOptions = Type.Object(
  {
    url: urlVariable('RABBITMQ_URL'),
    queue: Queue,
    exchange: Type.Optional(name('a topic exchange that it is bound to')),
    prefetch: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 10_000,
        description: 'a whole number of messages in hand at the most, from 1 to 10,000',
      }),
    ),
  },
  { additionalProperties: false },
)

/** What options lack together, or with the form of their row. */
export function outProblems(options: Written, row: OfRow): string[] {
  const { exchange, queues } = options
  const isTask = row.form === 'celery'
  return [
    ...(isTask && exchange !== ''
      ? ["lacks exchange: '', by which a task goes to the queue that routingKey names, such as routingKey: celery"]
      : []),
    ...(exchange === '' && recordsOf(queues).some(({ bind }) => bind)
      ? ["has bind, and with exchange: '' nothing is bound"]
      : []),
    ...(exchange === '' && reachesNone(options, row)
      ? ["has exchange: '', by which a message goes to the queue that routingKey names, and it names none of queues"]
      : []),
    ...strayNames(options, 'routingKey', ['{aggregate}', '{event}', '{key}']),
    ...queueProblems(recordsOf(queues)),
  ]
}

export const usualRoutingKey = '{aggregate}.{event}'

const routingKeysOf = ({ routingKey = usualRoutingKey }: Written, row: OfRow) =>
  typeof routingKey === 'string' ? kindsOf(row).map((of) => namedBy(routingKey, of)) : []

function reachesNone(options: Written, row: OfRow): boolean {
  const names = recordsOf(options.queues).map(({ name }) => name)
  const keys = routingKeysOf(options, row)
  return names.length > 0 && keys.length > 0 && !keys.some((key) => key.includes('{key}') || names.includes(key))
}

const queueProblems = (queues: readonly Written[]) =>
  queues.some(({ type, deliveryLimit }) => type === 'classic' && deliveryLimit !== undefined)
    ? ['has deliveryLimit of a classic queue, which has none: leave it out, or take type: quorum']
    : []

export const inProblems = ({ queue, exchange }: Written): string[] => [
  ...(recordsOf([queue]).some(({ bind }) => bind) && exchange === undefined
    ? ['has bind, which needs an exchange']
    : []),
  ...queueProblems(recordsOf([queue])),
]

const recordsOf = (values: unknown): Written[] =>
  Array.isArray(values) ? values.filter((one) => typeof one === 'object' && one !== null) : []

/** RabbitMQ 4 drops after 20 times what a bridge was given and could not take in, as its database was away. */
export const inDeliveries = 1_000_000

export function outClaims(options: Written, row: OfRow): Claim[] {
  const queues = recordsOf(options.queues)
  const isDirect = options.exchange === ''
  const exchange = `exchange ${options.exchange ?? `shop.${row.name}`}`
  const names = isDirect ? routingKeysOf(options, row) : queues.map(({ name }) => name)
  const places = new Set([...names.map((name) => `queue ${name}`), ...(isDirect ? [] : [exchange])])
  return [
    ...[...places].map((place): Claim => ({ place, does: 'sends into' })),
    ...queues.flatMap((one) => queueClaims(one)),
  ]
}

export const inClaims = ({ queue, exchange }: Written): Claim[] =>
  recordsOf([queue]).flatMap(({ bind = ['#'], ...one }) => [
    { place: `queue ${one.name}`, does: 'reads' },
    { place: `queue ${one.name}`, does: 'receives from' },
    // With other patterns it may get what others send there alone.
    ...(exchange !== undefined && Array.isArray(bind) && bind.includes('#')
      ? [{ place: `exchange ${exchange}`, does: 'receives from' } as const]
      : []),
    ...queueClaims(one, inDeliveries),
  ])

/** A queue can be declared in one way, and so can that of its dead letters. */
const queueClaims = (queue: Written, usualLimit?: number): Claim[] =>
  typeof queue.name === 'string'
    ? declarationsOf(queue as QueueOptions, usualLimit).map(({ name, args }) => ({
        place: `queue ${name}`,
        does: 'declares',
        as: JSON.stringify(args),
      }))
    : []

/**
 * What is declared for a queue, the queue of its dead letters first.
 * @param usualLimit of a quorum queue whose row says no `deliveryLimit`; by default the broker's own.
 */
export function declarationsOf(
  { name, type = 'quorum', maxLength, deliveryLimit, deadLetterQueue }: QueueOptions,
  usualLimit?: number,
): { name: string; args: Record<string, unknown> }[] {
  const limit = deliveryLimit ?? (type === 'quorum' ? usualLimit : undefined)
  const own = {
    ...(type === 'quorum' && { 'x-queue-type': 'quorum' }), // without an argument it is classic, as Celery's users have it
    ...(maxLength && { 'x-max-length': maxLength, 'x-overflow': 'reject-publish' }),
    ...(limit && { 'x-delivery-limit': limit }),
    ...(deadLetterQueue && { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': deadLetterQueue }),
  }
  const dead = deadLetterQueue ? [{ name: deadLetterQueue, args: { 'x-queue-type': 'quorum' } }] : []
  return [...dead, { name, args: own }]
}
