import { createRandom } from './random.ts'

/** What the schedule has to know of a kind of fault. */
export interface Schedulable {
  kind: string
  /** How often it comes in each round but the first. */
  weight: number
  /** From the fault to its end, shortest and longest; 0 for one that is over at once. */
  seconds: readonly [number, number]
  targets: readonly string[]
  /** What no other fault touches meanwhile. */
  occupies(target: string): readonly string[]
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

const meanGapMs = 2_500
/** The shop may work a moment before the first one. */
const quietMs = 1_500

/**
 * The faults of a run: the same for the same seed, time and kinds. They are dealt in rounds: in the first each kind comes
 * once, in the others as often as its weight says; so a run of two minutes has every kind. Two of them never touch the
 * same thing at once. Every fault ends within the run.
 */
export function planFaults(seed: string, runMs: number, kinds: readonly Schedulable[]): PlannedFault[] {
  const random = createRandom(`${seed} faults`)
  const busyUntil = new Map<string, number>()
  const planned: PlannedFault[] = []
  let dealt = shuffled(kinds, random.next)

  for (let at = quietMs; at < runMs - quietMs; at += gap(random.next())) {
    const isFree = (kind: Schedulable) => (target: string) =>
      kind.occupies(target).every((place) => (busyUntil.get(place) ?? 0) <= at)
    const kind = dealt.find((one) => at + one.seconds[0] * 1_000 <= runMs && one.targets.some(isFree(one)))
    if (!kind) continue
    dealt = dealt.toSpliced(dealt.indexOf(kind), 1)
    const [least, most] = kind.seconds
    const target = random.pick(kind.targets.filter(isFree(kind)))
    const durationMs = Math.min(Math.round(random.between(least, most) * 1_000), Math.floor(runMs - at))
    // What was killed needs a moment of its own, or it would be killed again before it does anything.
    for (const place of kind.occupies(target)) busyUntil.set(place, at + durationMs + quietMs)
    planned.push({ at: Math.round(at), kind: kind.kind, target, durationMs, force: random.next() })
    if (dealt.length === 0)
      dealt = shuffled(
        kinds.flatMap((one) => Array<Schedulable>(one.weight).fill(one)),
        random.next,
      )
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
