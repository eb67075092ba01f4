/** What a benchmark finds, how it is printed, and how two runs are told apart. */

export interface Spread {
  min: number
  median: number
  max: number
}

/** A figure, and what it is the sum of, by the names of its parts. */
export type Side = Spread & { parts?: Record<string, number> | undefined }

/** A figure of ours beside a reference's, from rounds in turns. */
export interface Result {
  name: string
  unit: string
  ours: Side
  /** What was measured beside it in the same run; absent where there is nothing to compare with. */
  reference?: Side & { name: string }
  /** How many times as good as the reference, also where less is better. */
  ratio?: number | undefined
  goal?: number | undefined
}

/** The median of each part. */
export function partsOf(rounds: readonly Record<string, number>[]): Record<string, number> {
  const names = [...new Set(rounds.flatMap(Object.keys))]
  return Object.fromEntries(names.map((name) => [name, spreadOf(rounds.map((parts) => parts[name] ?? 0)).median]))
}

/** Of some figures, in any order. */
export function spreadOf(figures: readonly number[]): Spread {
  const sorted = figures.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0
  return { min: at(0), median: at(0.5), max: at(1) }
}

interface Comparison {
  name: string
  unit: string
  goal?: number | undefined
  ours: readonly number[]
  reference: { name: string; figures: readonly number[] }
  lessIsBetter?: boolean
}

export function compared({ name, unit, goal, ours, reference, lessIsBetter = false }: Comparison): Result {
  const [mine, its] = [spreadOf(ours), spreadOf(reference.figures)]
  const ratio = lessIsBetter ? its.median / mine.median : mine.median / its.median
  return { name, unit, goal, ours: mine, reference: { name: reference.name, ...its }, ratio }
}

const rounds = 3

/** What ours and its reference do, in turns; a first round does not count. */
export async function inTurns(
  say: (line: string) => void,
  { ours, reference }: { ours: () => Promise<number>; reference: () => Promise<number> },
  unit = 'a second',
): Promise<{ ours: number[]; reference: number[] }> {
  const figures = { ours: [] as number[], reference: [] as number[] }
  for (let round = 0; round <= rounds; round++) {
    const [mine, its] = [await ours(), await reference()]
    say(
      `${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}: ${rounded(mine)} ${unit}, the reference ${rounded(its)}`,
    )
    if (round === 0) continue
    figures.ours.push(mine)
    figures.reference.push(its)
  }
  return figures
}

/**
 * The number at once (1, 2, 4 and so on) that gives the most a second. It ends after two in a row without a gain, as
 * one may be a moment of the machine's.
 */
export async function findBest(
  what: string,
  say: (line: string) => void,
  most: number,
  measure: (atOnce: number) => Promise<number>,
): Promise<number> {
  let best = { atOnce: 1, perSecond: 0 }
  for (let atOnce = 1; atOnce <= Math.min(most, best.atOnce * 4); atOnce *= 2) {
    const perSecond = await measure(atOnce)
    say(`${atOnce} ${what}: ${rounded(perSecond)} a second`)
    if (perSecond > best.perSecond) best = { atOnce, perSecond }
  }
  return best.atOnce
}

const rounded = (figure: number) => (figure >= 100 ? figure.toFixed(0) : figure.toFixed(figure >= 10 ? 1 : 2))
const inWords = ({ min, median, max }: Spread) => `${rounded(median)} (${rounded(min)}-${rounded(max)})`

/** Without a reference the goal is for the figure itself, of which less is better. */
const isHeld = ({ ours, ratio, goal }: Pick<Result, 'ours' | 'ratio'> & { goal: number }) =>
  ratio === undefined ? ours.median <= goal : ratio >= goal

/** A row each: median (least-most) of both sides, the ratio and whether the goal is held. */
export function table(results: readonly Result[]): string {
  const rows = results.map(({ name, unit, ours, reference, ratio, goal }) => [
    name,
    unit,
    inWords(ours),
    reference ? `${inWords(reference)} ${reference.name}` : '-',
    ratio === undefined ? '-' : ratio.toFixed(2),
    goal === undefined ? '-' : `${goal}: ${isHeld({ ours, ratio, goal }) ? 'held' : 'not held'}`,
  ])
  const all = [['name', 'unit', 'ours', 'reference', 'ratio', 'goal'], ...rows]
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? []
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  return all.map(line).join('\n')
}

/**
 * The ratios that fell by more than the noise of their rounds: half the range between the least and the most of each
 * figure, relative to its median, of both runs together.
 */
export function fallen(before: readonly Result[], after: readonly Result[]): string[] {
  return after.flatMap((now) => {
    const then = before.find(({ name, reference }) => name === now.name && reference?.name === now.reference?.name)
    if (!then?.ratio || !now.ratio) return []
    const noise = Math.hypot(...[then, now].flatMap(({ ours, reference }) => [apart(ours), apart(reference)]))
    const floor = then.ratio * (1 - noise)
    return now.ratio < floor
      ? [
          `${now.name}: ${now.ratio.toFixed(2)}, was ${then.ratio.toFixed(2)} with a noise of ${(100 * noise).toFixed(0)} %`,
        ]
      : []
  })
}

const apart = (spread: Spread | undefined) => (spread?.median ? (spread.max - spread.min) / 2 / spread.median : 0)
