import { createHash } from 'node:crypto'
import { isUnavailable } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import {
  createAbsence,
  foreignPolicy,
  inboundName,
  MalformedMessage,
  type ParkedHandling,
  type Parking,
  park,
  parkedBy,
  startRetrier,
} from '@shopstream/messaging/forwarding'
import type { Bridge } from '../bridges.ts'
import type { RunningBridge, Surroundings } from '../running.ts'
import type { Inlet, Received } from '../targets/target.ts'
import { accept } from './accept.ts'
import { whileLeading } from './lead.ts'
import { type Arrival, keptHeaders, maxBytes, readArrival } from './read.ts'

/** What an inbound bridge is away of, as {@link createAbsence} wants it. */
const source = 'source'
/** Pauses while the source is away, in ms. */
const awayMs = { first: 500, longest: 10_000 }
const databaseMs = { first: 100, longest: 5_000 }

/** Takes events in from the broker of a row; what does not fit is parked with its bytes. */
export async function startReceiving(bridge: Bridge, around: Surroundings): Promise<RunningBridge> {
  const { name, target, options, url } = bridge
  const { database, logger, meters } = around
  const inlet = (await target.in?.open({ bridge: name, options, url, logger })) as Inlet // the table was judged
  const absence = createAbsence(logger)
  const stopping = new AbortController()
  const take = async (messages: readonly Received[], stop: AbortSignal) => {
    absence.tell(source)
    if (messages.length > 0) await takeIn(bridge, around, messages, stop)
  }
  const receiving = whileLeading({ database, bridge: name, logger }, stopping.signal, (stop) =>
    receiveForEver(inlet, take, absence, stop),
  )
  const retrier = startRetrier({
    database,
    group: 'bridge',
    handling: handlingOf(bridge, meters.receiving(name)),
    logger,
  })
  return {
    bridge,
    leavesOut: [],
    away: absence.now,
    async close() {
      stopping.abort()
      await Promise.all([receiving, retrier.close()])
      await inlet.close()
    },
  }
}

async function receiveForEver(
  inlet: Inlet,
  take: (messages: readonly Received[], stop: AbortSignal) => Promise<void>,
  absence: ReturnType<typeof createAbsence>,
  stop: AbortSignal,
): Promise<void> {
  for (let pauseMs = awayMs.first; !stop.aborted; ) {
    const begun = performance.now()
    try {
      await inlet.receive((messages) => take(messages, stop), stop)
    } catch (error) {
      if (stop.aborted) return
      absence.tell(source, error)
    }
    pauseMs = performance.now() - begun > awayMs.longest ? awayMs.first : Math.min(awayMs.longest, 2 * pauseMs)
    await pause(pauseMs, stop)
  }
}

/**
 * Returns once all stands in the database, as events or parked; throws when this instance stops, or leads no more, before. While
 * events wait for Kafka, nothing more is taken.
 */
async function takeIn(
  bridge: Bridge,
  around: Surroundings,
  messages: readonly Received[],
  stop: AbortSignal,
): Promise<void> {
  const { overloaded, logger } = around
  while (overloaded() && !stop.aborted) await pause(databaseMs.longest, stop)
  const read = messages.map((message) => readOrProblem(message, bridge))
  for (let backoff = databaseMs.first; ; backoff = Math.min(databaseMs.longest, 2 * backoff)) {
    stop.throwIfAborted()
    try {
      return await takeTogether(bridge, around, read)
    } catch (error) {
      if (!isUnavailable(error)) return takeOneByOne(bridge, around, read, error)
      logger.warn({ err: error }, 'the database is unavailable; what came in is tried again')
      await pause(backoff, stop)
    }
  }
}

async function takeTogether(
  bridge: Bridge,
  { database, meters, logger }: Surroundings,
  read: readonly Read[],
): Promise<void> {
  const counts = await database.transaction(async (tx) => {
    const arrivals = read.flatMap(({ arrival }) => arrival ?? [])
    const fresh = await accept(tx, bridge.row, arrivals)
    await park(tx, 'bridge', parkingsOf(bridge, read))
    return { taken: fresh.length, repeated: arrivals.length - fresh.length, dead: read.length - arrivals.length }
  })
  meters.receiving(bridge.name).count(counts)
  if (counts.dead === 0) return
  const reasons = [...new Set(read.flatMap(({ problem }) => (problem instanceof Error ? problem.message : [])))]
  logger.warn(
    { messages: counts.dead, reasons: reasons.slice(0, shownReasons) },
    'what came in fits no event, and is parked',
  )
}

/** Each row of the parking lot has its own. */
const shownReasons = 5

/** What the database refuses for its own sake is parked; the others do not suffer for it. */
async function takeOneByOne(
  bridge: Bridge,
  around: Surroundings,
  read: readonly Read[],
  problem: unknown,
): Promise<void> {
  for (const one of read) {
    const alone = read.length > 1 ? takeTogether(bridge, around, [one]) : Promise.reject(problem) // it was alone
    await alone.catch((error) => takeRefused(bridge, around, one, error))
  }
}

async function takeRefused(bridge: Bridge, around: Surroundings, { message }: Read, problem: unknown): Promise<void> {
  if (isUnavailable(problem)) throw problem
  around.logger.error({ err: problem }, 'a message that came in cannot be taken, and is parked')
  await takeTogether(bridge, around, [
    { message, problem: new MalformedMessage('the database refuses it', { cause: problem }) },
  ])
}

interface Read {
  message: Received
  arrival?: Arrival
  problem?: unknown
}

function readOrProblem(message: Received, { row }: Bridge): Read {
  try {
    return { message, arrival: readArrival(message, row) }
  } catch (problem) {
    return { message, problem }
  }
}

/** A source has no offsets: a number of its content stands for one, so that what comes again is parked once. */
function numberOf({ body, headers }: Received): bigint {
  const hash = createHash('sha256').update(body)
  for (const header of Object.entries(headers)) hash.update(JSON.stringify(header)) // together they may be too long a text
  return hash.digest().readBigUInt64BE() >> 1n
}

function parkingsOf({ name }: Bridge, read: readonly Read[]): Parking[] {
  const unfit = read.filter(({ problem }) => problem !== undefined)
  const parkings = unfit.map(({ message, problem }) => ({
    message: {
      topic: parkedBy(name, inboundName),
      partition: 0,
      offset: numberOf(message),
      key: null, // it holds back nobody
      value: message.body.subarray(0, maxBytes), // as hexadecimal digits, the whole of a large one would end this process
      headers: keptHeaders(message),
    },
    policy: foreignPolicy,
    error: problem,
  }))
  return [...new Map(parkings.map((one) => [one.message.offset, one])).values()]
}

/** What was parked is tried again when somebody has redriven it: this version may take it. */
function handlingOf(bridge: Bridge, meters: ReturnType<Surroundings['meters']['receiving']>): ParkedHandling {
  return {
    scope: { topics: [parkedBy(bridge.name, inboundName)] },
    policyOf: () => foreignPolicy,
    async handle(tx, message) {
      const { value, headers } = message
      if (value === null) throw new MalformedMessage('it has no body')
      const texts = Object.entries(headers).map(([name, held]) => [name, held?.toString() ?? ''])
      const received: Received = { body: value, headers: Object.fromEntries(texts) }
      const fresh = await accept(tx, bridge.row, [readArrival(received, bridge.row)])
      return { message, outcome: fresh.length > 0 ? 'handled' : 'repeated' }
    },
    meters: {
      count: (tried, outcome) =>
        meters.count({
          taken: outcome === 'handled' ? tried.length : 0,
          repeated: outcome === 'repeated' ? tried.length : 0,
          dead: 0,
        }),
      failedAgain: () => {}, // its row says it
    },
  }
}
