import type { Order } from './orders.ts'

/** Delays from the post of an order to its decision, in ms. */
export interface Delays {
  count: number
  median: number
  p99: number
  max: number
}

/** What a line of the proof came to. */
export interface Line {
  claim: string
  /** The figures. */
  told: string
  /** What speaks against it; the line holds where nothing does. */
  against: string[]
}

/** How much later than 99 % of the orders without the foreign producer an order may be. */
const laterMs = 1_000
/** Orders that waited behind a stretch are decided this soon after it was stepped over. */
const releasedMs = 5_000

const delayOf = ({ postedAt, decidedAt = Number.POSITIVE_INFINITY }: Order) => decidedAt - postedAt

export function delaysOf(orders: readonly Order[]): Delays {
  const sorted = orders.map(delayOf).toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
  return { count: sorted.length, median: at(0.5), p99: at(0.99), max: at(1) }
}

/** No order of these is more than a second later than the 99th percentile of the usual ones. */
export function judgeDelays(claim: string, orders: readonly Order[], usual: Delays): Line {
  const late = orders.filter((order) => delayOf(order) > usual.p99 + laterMs)
  const { max } = delaysOf(orders)
  const told = `of ${orders.length} the latest after ${Math.round(max)} ms, ${Math.round(max - usual.p99)} ms beyond 99 % of the usual`
  return { claim, told, against: late.map(inWords) }
}

/**
 * The orders of an obstacle's partition are decided within 5 s of its end, or of their post, if that came later. Some of
 * them have to have waited for it, or nothing was shown.
 * @param ended when each partition's obstacle had gone, in ms since 1970.
 */
export function judgeReleased(claim: string, orders: readonly Order[], ended: ReadonlyMap<number, number>): Line {
  const concerned = orders.flatMap((order) => {
    const end = ended.get(order.partition)
    if (end === undefined) return []
    const { postedAt, decidedAt = Number.POSITIVE_INFINITY } = order
    return [{ order, waited: postedAt < end && decidedAt > end, afterMs: decidedAt - Math.max(postedAt, end) }]
  })
  const waited = concerned.filter((one) => one.waited)
  const late = concerned.filter(({ afterMs }) => afterMs > releasedMs)
  const slowest = Math.round(Math.max(0, ...waited.map(({ afterMs }) => afterMs)))
  const told = `${waited.length} had waited, the last of them was decided ${slowest} ms after it`
  const against = waited.length === 0 ? ['no order had to wait, so that nothing was shown'] : []
  return { claim, told, against: [...against, ...late.map(({ order }) => inWords(order))] }
}

const inWords = (order: Order) =>
  `order ${order.id ?? '(without an id)'} of partition ${order.partition}: ${order.status} after ${delayOf(order)} ms`
