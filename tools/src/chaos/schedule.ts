import { createRandom } from './random.ts'

/** What the schedule has to know of a kind of fault. */
export interface Schedulable {
  kind: string
  /** How often it comes beside the others. */
  weight: number
  /** From the fault to its end, shortest and longest; 0 for one that is over at once. */
  seconds: readonly [number, number]
  targets: readonly string[]
  /** What no other fault touches meanwhile. */
  occupies(target: string): string
}

export interface PlannedFault {
  /** ms after the beginning. */
  at: number
  kind: string
  target: string
  durationMs: number
  /** From 0 to below 1: how hard, for the kinds that ask. */
  force: number
}

const meanGapMs = 3_000
/** The shop may work a moment before the first one. */
const quietMs = 1_500

/**
 * The faults of a run: the same for the same seed, time and kinds. Each kind comes once before any comes twice, then by
 * weight; two of them never at the same target at once. Every fault ends within the run.
 */
export function planFaults(seed: string, runMs: number, kinds: readonly Schedulable[]): PlannedFault[] {
  const random = createRandom(`${seed} faults`)
  const byKind = Object.fromEntries(kinds.map((kind) => [kind.kind, kind]))
  const weights = Object.fromEntries(kinds.map(({ kind, weight }) => [kind, weight]))
  const first = shuffled(Object.keys(byKind), random.next)
  const busyUntil = new Map<string, number>()
  const planned: PlannedFault[] = []

  for (let at = quietMs; at < runMs - quietMs && kinds.length > 0; at += gap(random.next())) {
    const kind = byKind[first[0] ?? random.weighted(weights)] as Schedulable
    const [least, most] = kind.seconds
    const durationMs = Math.min(Math.round(random.between(least, most) * 1_000), runMs - at)
    const free = kind.targets.filter((target) => (busyUntil.get(kind.occupies(target)) ?? 0) <= at)
    const force = random.next()
    if (free.length === 0 || at + least * 1_000 > runMs) {
      first.push(...first.splice(0, 1)) // later
      continue
    }
    const target = random.pick(free)
    first.shift()
    // What was killed needs a moment of its own, or it would be killed again before it does anything.
    busyUntil.set(kind.occupies(target), at + durationMs + quietMs)
    planned.push({ at: Math.round(at), kind: kind.kind, target, durationMs, force })
  }
  return planned
}

/** Most faults come close to each other, some after a while. */
const gap = (chance: number) => Math.min(4 * meanGapMs, 200 - Math.log(1 - chance) * (meanGapMs - 200))

function shuffled<T>(list: readonly T[], next: () => number): T[] {
  return list
    .map((value) => ({ value, place: next() }))
    .sort((a, b) => a.place - b.place)
    .map(({ value }) => value)
}
