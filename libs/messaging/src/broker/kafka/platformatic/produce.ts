import { type MessageRecord, NumericMap, ProduceAcks, produceV9 } from '@platformatic/kafka'
import { pause } from '../../../async.ts'
import { type Delivery, MessageRefused, type OutgoingMessage, placeOf } from '../../bus.ts'
import type { BrokerAddress } from '../protocol.ts'
import type { Cluster } from './cluster.ts'
import { type Connections, timeLimit } from './connections.ts'
import { BrokerError, errors, LeaderMoved, Unreachable } from './errors.ts'

/** Ms that a leader waits for its replicas, less than it has to answer. A frozen replica no longer counts after 9 s. */
const replicasLimit = 12_000
/** How often to ask who leads while waiting for an answer, in ms. */
const replacedEvery = 2_000
/**
 * Most bytes of a batch, except of a single message: less than any topic takes by default (1 MiB), so that no message
 * is refused because of others.
 */
const batchBytes = 900_000
/** What a record has beside key, value and headers, at the most. */
const recordHeadBytes = 40

/**
 * Errors that mean: the broker will never accept the batch. A wrong clock (INVALID_TIMESTAMP) is corrected some day.
 */
const refusals: readonly number[] = [
  errors.messageTooLarge,
  errors.recordListTooLarge,
  errors.invalidRecord,
  errors.policyViolation,
]
/**
 * Errors after which nothing has been written. NOT_LEADER_OR_FOLLOWER is not one of them: a leader that is replaced
 * while it waits for the replicas returns it too, and its successor may have the batch.
 */
const neverWritten: readonly number[] = [...refusals, errors.notEnoughReplicas, errors.invalidTimestamp]

/** Errors of a broker that does not lead the partition: not any more, or not yet, as just after a topic was made. */
const moved: readonly number[] = [errors.unknownTopicOrPartition, errors.notLeader]
/** Pauses before messages that it refused go to the new leader, in ms. */
const movingPauses = [100, 400]

/**
 * Identity that batches are written with: per id and epoch, brokers accept them in the order of their sequences only.
 */
export interface ProducerIdentity {
  readonly producerId: bigint
  readonly epoch: number
  /** Of the next message, by `topic/partition` on the wire; 0 where there is none. */
  readonly sequences: Map<string, number>
  /** Whether a batch may have been written that is not counted: from here on sequences say nothing. */
  isUncertain: boolean
}

/** A message on its way. */
interface Item<M extends OutgoingMessage> {
  message: M
  record: MessageRecord
  size: number
  error?: Error
}

/** What is to be sent of a partition: batch by batch, one at a time. */
interface Queue<M extends OutgoingMessage> {
  place: string
  batches: Item<M>[][]
}

export interface Producer {
  /** See `Bus.publish`. A partition's error is a {@link BrokerError} where its leader has said so. */
  publish<M extends OutgoingMessage>(messages: readonly M[], identity?: ProducerIdentity): Promise<Delivery<M>[]>
}

interface Parts {
  cluster: Cluster
  connections: Connections
}

/**
 * The library's Producer is not used: one partition's error hides what became of the others, a partition without a
 * leader fails only after all its retries, and a retry uses the same sequence, whatever happened to the first attempt.
 */
export function createProducer(parts: Parts, wireName: (name: string) => string): Producer {
  const { cluster } = parts
  /** What is under way by partition: a second request could overtake the first. */
  const underWay = new Map<string, Promise<unknown>>()

  async function publish<M extends OutgoingMessage>(messages: readonly M[], identity?: ProducerIdentity) {
    const items = messages.map((message) => toItem(message, wireName(message.topic)))
    const queues = [...Map.groupBy(items, placeOfItem)].map(([place, ofPlace]) => ({
      place,
      batches: batchesOf(ofPlace),
    }))
    const former = queues.map(({ place }) => underWay.get(place))
    const sending = Promise.allSettled(former).then(() => sendQueues(queues, identity))
    for (const { place } of queues) underWay.set(place, sending)
    try {
      await sending
    } finally {
      for (const { place } of queues) if (underWay.get(place) === sending) underWay.delete(place)
    }
    if (items.length > 0 && items.every(({ error }) => error instanceof Unreachable)) await findAnyBroker(items)
    return items.map(({ message, error }) => (error ? { message, error } : { message }))
  }

  /** Throws when no broker answers: then the trouble is not these partitions'. */
  async function findAnyBroker(items: readonly Item<OutgoingMessage>[]): Promise<void> {
    cluster.forgetLeaders()
    await cluster.leaders(topicsOf(items))
  }

  async function sendQueues<M extends OutgoingMessage>(
    queues: readonly Queue<M>[],
    identity: ProducerIdentity | undefined,
  ): Promise<void> {
    const leaders = await cluster.leaders(topicsOf(queues.flatMap(({ batches }) => batches.flat())))
    const led = queues.flatMap((queue) => {
      const found = leaders.get(queue.place)
      if (found?.leader) return [{ queue, leader: found.leader }]
      cluster.forgetLeaders()
      const code = found?.errorCode ?? errors.unknownTopicOrPartition
      for (const item of queue.batches.splice(0).flat())
        item.error = cluster.refusal(item.record.topic) ?? new BrokerError(queue.place, code)
      return []
    })
    const byLeader = Map.groupBy(led, ({ leader }) => `${leader.host}:${leader.port}`)
    await Promise.all(
      [...byLeader.values()].map((ofLeader) => {
        const leader = ofLeader[0]?.leader as BrokerAddress
        return sendTo(
          leader,
          ofLeader.map(({ queue }) => queue),
          identity,
        )
      }),
    )
  }

  /** Never throws. One batch per partition at a time; the batches after a refused one are not sent. */
  async function sendTo<M extends OutgoingMessage>(
    leader: BrokerAddress,
    queues: readonly Queue<M>[],
    identity: ProducerIdentity | undefined,
  ): Promise<void> {
    for (let open = queues; open.length > 0; open = open.filter(({ batches }) => batches.length > 0)) {
      const problems = await send(parts, leader, open, identity)
      for (const queue of open) {
        const [batch = []] = queue.batches
        const problem = problems.get(queue.place)
        if (problem) giveUp(queue, problem)
        else queue.batches.shift()
        if (identity) takeNote(identity, queue.place, batch.length, problem)
      }
      if ([...problems.values()].some((problem) => !(problem instanceof MessageRefused))) cluster.forgetLeaders()
    }
  }

  return { publish }
}

/** Sends the first batch of each; returns what is wrong by partition, nothing where all in-sync replicas have it. */
async function send<M extends OutgoingMessage>(
  { cluster, connections }: Parts,
  leader: BrokerAddress,
  queues: readonly Queue<M>[],
  identity: ProducerIdentity | undefined,
): Promise<Map<string, Error>> {
  const records = queues.flatMap(({ batches }) => batches[0]?.map(({ record }) => record) ?? [])
  const options = identity && batchOptions(identity, records)
  try {
    const args: Parameters<typeof produceV9.createRequest> = [ProduceAcks.ALL, replicasLimit, records, options]
    const answering = connections.call(leader, produceV9.api, args, timeLimit.answer)
    const answer = await whileLeading(cluster, leader, records, answering)
    const answers = new Map(
      (answer as produceV9.ProduceResponse).responses.flatMap(({ name, partitionResponses }) =>
        partitionResponses.map((one) => [placeOf({ topic: name, partition: one.index }), one] as const),
      ),
    )
    return problemsOf(queues, (place) => problemOf(place, answers.get(place)))
  } catch (error) {
    return problemsOf(queues, () => error as Error)
  }
}

/** Waits for the answer, and throws if the leader is replaced meanwhile: a frozen one would delay all for 15 s. */
async function whileLeading<Answer>(
  cluster: Cluster,
  leader: BrokerAddress,
  records: readonly MessageRecord[],
  answering: Promise<Answer>,
): Promise<Answer> {
  answering.catch(() => {}) // it may fail when nobody waits for it any more
  const waiting = new AbortController()
  try {
    return await Promise.race([answering, replaced(cluster, leader, records, waiting.signal)])
  } finally {
    waiting.abort()
  }
}

/** Throws once the leader leads none of these partitions. */
async function replaced(
  cluster: Cluster,
  { host, port }: BrokerAddress,
  records: readonly MessageRecord[],
  signal: AbortSignal,
): Promise<never> {
  const places = new Set(records.map(({ topic, partition = 0 }) => placeOf({ topic, partition })))
  for (;;) {
    await pause(replacedEvery, signal)
    if (signal.aborted) return Promise.withResolvers<never>().promise
    cluster.forgetLeaders()
    const leaders = await cluster.leaders([...new Set(records.map(({ topic }) => topic))]).catch(() => undefined)
    const isLed = (place: string) =>
      leaders?.get(place)?.leader?.host === host && leaders.get(place)?.leader?.port === port
    if (leaders && ![...places].some(isLed))
      throw new Unreachable(`${host}:${port} has been replaced before it answered`)
  }
}

function toItem<M extends OutgoingMessage>(message: M, topic: string): Item<M> {
  const key = message.key === null ? null : Buffer.from(message.key)
  const headers = Object.entries(message.headers).map(
    ([name, value]) => [Buffer.from(name), value === null ? null : Buffer.from(value)] as const,
  )
  const ofHeaders = headers.reduce((sum, [name, value]) => sum + name.length + (value?.length ?? 0) + 10, 0)
  return {
    message,
    // Its types know no null, which it writes as one.
    record: {
      topic,
      partition: message.partition,
      key,
      value: message.value,
      headers: new Map(headers),
    } as MessageRecord,
    size: recordHeadBytes + (key?.length ?? 0) + (message.value?.length ?? 0) + ofHeaders,
  }
}

const placeOfItem = ({ record, message }: Item<OutgoingMessage>) =>
  placeOf({ topic: record.topic, partition: message.partition })

const topicsOf = (items: readonly Item<OutgoingMessage>[]) => [...new Set(items.map(({ record }) => record.topic))]

function batchesOf<M extends OutgoingMessage>(items: readonly Item<M>[]): Item<M>[][] {
  const batches: Item<M>[][] = []
  let left = 0
  for (const item of items) {
    if (item.size > left) {
      batches.push([])
      left = batchBytes
    }
    batches.at(-1)?.push(item)
    left -= item.size
  }
  return batches
}

function problemsOf<M extends OutgoingMessage>(
  queues: readonly Queue<M>[],
  problem: (place: string) => Error | undefined,
): Map<string, Error> {
  return new Map(
    queues.flatMap(({ place }) => {
      const found = problem(place)
      return found ? [[place, found] as const] : []
    }),
  )
}

function problemOf(place: string, answer: produceV9.ProduceResponsePartition | undefined): Error | undefined {
  if (!answer) return new Unreachable(`${place}: the broker has not answered for it`)
  const { errorCode, errorMessage } = answer
  if (errorCode === errors.none) return undefined
  if (moved.includes(errorCode)) return new LeaderMoved(place, errorCode, errorMessage)
  const said = new BrokerError(place, errorCode, errorMessage)
  return refusals.includes(errorCode) ? new MessageRefused(said.message, { cause: said }) : said
}

/** The batch that was tried has this problem; what follows it is not sent, as it may be of the same keys. */
function giveUp<M extends OutgoingMessage>(queue: Queue<M>, problem: Error): void {
  const [tried = [], ...rest] = queue.batches.splice(0)
  for (const item of tried) item.error = problem
  for (const item of rest.flat())
    item.error = new Error(`not sent: what comes before it was not taken (${problem.message})`, { cause: problem })
}

function batchOptions({ producerId, epoch, sequences }: ProducerIdentity, records: readonly MessageRecord[]) {
  const next = records.map(({ topic, partition = 0 }): [string, number] => [
    `${topic}:${partition}`,
    sequences.get(placeOf({ topic, partition })) ?? 0,
  ])
  return { producerId, producerEpoch: epoch, sequences: new NumericMap(next) }
}

/** Sequences begin again at 0 behind the largest number of 31 bits. */
function takeNote(identity: ProducerIdentity, place: string, count: number, problem: Error | undefined): void {
  if (!problem) identity.sequences.set(place, ((identity.sequences.get(place) ?? 0) + count) % 2 ** 31)
  else if (!neverWritten.includes(brokerErrorOf(problem)?.code ?? errors.none)) identity.isUncertain = true
}

/** Publishes; repeats messages whose leader has moved, twice at most. */
export async function publishFollowing<M extends OutgoingMessage>(
  messages: readonly M[],
  publish: (messages: readonly M[]) => Promise<Delivery<M>[]>,
): Promise<Delivery<M>[]> {
  let deliveries = await publish(messages)
  for (const ms of movingPauses) {
    const again = deliveries.filter(({ error }) => brokerErrorOf(error) instanceof LeaderMoved)
    if (again.length === 0) break
    await pause(ms)
    const [...rest] = await publish(again.map(({ message }) => message))
    deliveries = deliveries.map((delivery) => (again.includes(delivery) ? (rest.shift() ?? delivery) : delivery))
  }
  return deliveries
}

/** What a broker has said, if that is what is behind an error. */
export function brokerErrorOf(error: unknown): BrokerError | undefined {
  if (error instanceof BrokerError) return error
  return error instanceof Error ? brokerErrorOf(error.cause) : undefined
}
