import { isUnavailable } from '@shopstream/database'
import type { IncomingMessage } from '../broker/bus.ts'
import { crashPoint } from '../crash-points.ts'
import type { Lane } from '../event/consumption.ts'
import { MalformedMessage } from '../event/envelope.ts'
import { type Effects, failureOf, handleItems, handleOnce, PartitionLost, type Revocable } from './effects.ts'
import { type Item, readAll } from './items.ts'
import { createGate, type Gate } from './lanes.ts'

/** Messages of one transaction at the most. Measured: 20.9k messages/s against 0.7k with a transaction for each. */
export const chunkSize = 200
/** Chunks, or parts of them, in hand at once, each with a connection of the pool's. */
const chunksAtOnce = 4

/** Messages that wait for their turn. */
interface Chunk {
  messages: IncomingMessage[]
  partition: Revocable
  /** The chunk that has the turn resolves this with the outcome of all together. */
  together: PromiseWithResolvers<Together>
}

type Together = 'done' | 'failed' | 'untried'

/** Whose turn it is, and what takes effect in it. */
export interface Chunks {
  effects: Effects
  gate: Gate<Chunk | undefined>
}

export const chunksOf = (effects: Effects): Chunks => ({ effects, gate: createGate(chunksAtOnce, asOne) })

/**
 * Handles messages of one partition, in their order: when this returns, each has taken effect or is parked. Throws
 * {@link PartitionLost}.
 */
export async function handleChunk(
  chunks: Chunks,
  messages: IncomingMessage[],
  lane: Lane,
  partition: Revocable,
): Promise<void> {
  const chunk = { messages, partition, together: Promise.withResolvers<Together>() }
  const tried = await tryWithOthers(chunks, chunk, lane)
  if (tried === 'done') return
  const { items, failure } = tried
  if (failure === undefined) return
  const { topic, partition: number } = messages[0] as IncomingMessage
  chunks.effects.logger.warn(
    { err: failure, topic, partition: number, messages: items.length },
    'a chunk failed; its messages come in smaller parts',
  )
  await handleInParts(chunks, items, failure, lane, partition)
}

/**
 * Chunks of several partitions that wait for a turn take effect in one transaction, which costs as much for six as for
 * one. If it fails, each is tried alone, so no message is parked because of another. This holds even if the partition
 * has moved meanwhile: a handler that computes so long that it loses its partition would never be tried alone, and its
 * message never parked.
 */
async function tryWithOthers(chunks: Chunks, chunk: Chunk, lane: Lane) {
  const { effects, gate } = chunks
  const turn = await gate.enter(lane, chunk)
  if (!turn) {
    const outcome = await chunk.together.promise
    return outcome === 'done' ? outcome : inTurn(chunks, lane, () => tryAlone(effects, chunk, outcome))
  }
  try {
    const others = turn.pieces.filter((one) => one !== undefined)
    const outcome = others.length > 1 ? await takeEffect(effects, others) : 'untried'
    for (const { together } of others) together.resolve(outcome)
    return outcome === 'done' ? outcome : await tryAlone(effects, chunk, outcome)
  } finally {
    turn.leave()
  }
}

async function inTurn<R>({ gate }: Chunks, lane: Lane, work: () => Promise<R>): Promise<R> {
  const turn = await gate.enter(lane, undefined)
  try {
    return await work()
  } finally {
    turn?.leave()
  }
}

/** One attempt, which may fail for any reason; none if one of the partitions has moved. */
async function takeEffect(effects: Effects, chunks: readonly Chunk[]): Promise<Together> {
  try {
    if (chunks.some(({ partition }) => partition.revoked.aborted)) return 'untried'
    crashPoint('chunk-received')
    const items = await readAll(
      effects,
      chunks.flatMap(({ messages }) => messages),
    )
    if (items.length > 0) await handleOnce(effects, items)
    return 'done'
  } catch (error) {
    effects.logger.debug({ err: error, chunks: chunks.length }, 'chunks failed together; each is tried alone')
    return 'failed'
  }
}

async function tryAlone(effects: Effects, { messages, partition }: Chunk, before: Together) {
  if (before === 'untried' && partition.revoked.aborted)
    throw new PartitionLost('the partition moved while it waited for its turn')
  crashPoint('chunk-received')
  const items = await readAll(effects, messages)
  return { items, failure: await failureOf(effects, items, partition) }
}

/**
 * Handles in order the messages that failed together: half as many at once after each failure, down to one, which is
 * parked, and twice as many after each success. One bad message of 200 costs about 20 transactions instead of 200, and
 * 200 bad ones two each at most; others get their turn in between. A message that takes too long costs seconds each
 * time, so these are tried one by one. It is parked even if its partition has moved meanwhile: the next member would
 * lose the partition in the same way.
 */
async function handleInParts(
  chunks: Chunks,
  items: readonly Item[],
  failure: unknown,
  lane: Lane,
  partition: Revocable,
): Promise<void> {
  const { effects } = chunks
  const parked: Item[] = []
  let most = isUnavailable(failure) ? 1 : Math.ceil(items.length / 2)
  try {
    for (let at = 0, size = most; at < items.length; ) {
      const part = items.slice(at, at + Math.min(size, most))
      if (most > 1 && partition.revoked.aborted) throw new PartitionLost('the partition moved between two parts')
      const problem = await inTurn(chunks, lane, () => failureOf(effects, part, partition))
      if (isUnavailable(problem)) most = 1
      if (problem !== undefined && part.length > 1) {
        size = Math.ceil(part.length / 2)
        continue
      }
      const [item] = part
      if (problem !== undefined && item)
        parked.push(await inTurn(chunks, lane, () => parkOne(effects, item, problem, partition)))
      at += part.length
      size = problem === undefined ? 2 * part.length : 1
    }
  } finally {
    tellFailed(effects, parked)
  }
}

async function parkOne(effects: Effects, item: Item, problem: unknown, assigned: Revocable): Promise<Item> {
  const failed = { ...item, problem }
  try {
    await handleItems(effects, [failed], assigned)
  } catch (refused) {
    if (refused instanceof PartitionLost) throw refused
    // Something of the message cannot even be stored: its bytes alone are kept, so that the partition moves on.
    const { topic, partition, offset } = item.message
    effects.logger.error(
      { err: refused, topic, partition, offset: String(offset) },
      'a message is parked without key and headers',
    )
    const message = { ...item.message, key: null, headers: {} }
    const bare = { message, policy: item.policy, problem: new MalformedMessage(String(refused)) }
    await handleItems(effects, [bare], assigned)
  }
  return failed
}

/** One line for a chunk: a producer of bad messages may write many of them. */
function tellFailed({ logger }: Effects, parked: readonly Item[]): void {
  const [first] = parked
  if (!first) return
  const { topic, partition, offset } = first.message
  const where = { topic, partition, offset: String(offset), type: first.event?.type, messages: parked.length }
  logger.error({ err: first.problem, ...where }, 'messages failed and are parked; this is the first of them')
}

/** How many of the chunks that wait are handled as one: what is tried again in parts goes alone. */
function asOne(waiting: readonly (Chunk | undefined)[]): number {
  let messages = 0
  const end = waiting.findIndex((chunk) => {
    messages += chunk?.messages.length ?? Number.POSITIVE_INFINITY
    return messages > chunkSize
  })
  return Math.max(1, end === -1 ? waiting.length : end)
}
