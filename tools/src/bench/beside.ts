import { type Arm, findMaximum, inWords, measureThroughput, type RunningArm, type Throughput } from './arms.ts'
import { article as djangoAndCelery } from './article.ts'
import { type Say, total } from './measure.ts'
import { ours } from './ours.ts'

const mostClients = 128
const warmUp = { clients: 16, seconds: 10 }
const seconds = 20
const rounds = 3

/** What came of one measure on both sides; the ratio is so that more is better. */
export interface Result {
  name: string
  unit: string
  ours: Spread
  reference: Spread & { name: string }
  ratio: number
  goal: number
}

interface Spread {
  min: number
  median: number
  max: number
}

/** Orders a second and CPU of an order, beside those of the article's stack. */
export const article = (say: Say) => beside(djangoAndCelery, { orders: 10, cpu: 10 }, say)

/**
 * Ours and a reference in turns, each started anew for each round so that the other takes nothing of the machine: the first
 * round finds the number of clients at which each does the most, the others repeat that.
 */
async function beside(reference: Arm, goals: { orders: number; cpu: number }, say: Say): Promise<Result[]> {
  const lacks = reference.lacks()
  if (lacks) {
    say(`${reference.name}: skipped, this machine lacks ${lacks}`)
    return []
  }
  for (const arm of [ours, reference]) say(`${arm.name}: ${arm.words}`)
  const found = new Map<Arm, Throughput[]>([
    [ours, []],
    [reference, []],
  ])
  for (let round = 1; round <= rounds; round++) {
    for (const [arm, figures] of found) {
      say(`round ${round} of ${rounds}: ${arm.name}`)
      const one = await during(arm, say, async (running) => {
        await measureThroughput(running, warmUp.clients, warmUp.seconds)
        const clients = figures[0]?.clients ?? (await findMaximum(running, warmUp.seconds, say)).clients
        return measureThroughput(running, clients, seconds)
      })
      say(inWords(one))
      figures.push(one)
    }
  }
  const [mine, its] = [found.get(ours) ?? [], found.get(reference) ?? []]
  const result = (
    name: string,
    unit: string,
    goal: number,
    figure: (one: Throughput) => number,
    isLessBetter = false,
  ) => {
    const [left, right] = [spreadOf(mine.map(figure)), spreadOf(its.map(figure))]
    const ratio = isLessBetter ? right.median / left.median : left.median / right.median
    say(
      `${name}: ${words(left)} ${unit}; ${reference.name} ${words(right)}: ${ratio.toFixed(2)} times as good, the goal is ${goal}`,
    )
    return { name, unit, ours: left, reference: { name: reference.name, ...right }, ratio, goal }
  }
  return [
    result('orders', 'orders/s', goals.orders, ({ perSecond }) => perSecond),
    result('orders-cpu', 'ms of CPU per order', goals.cpu, ({ cpuMs }) => total(cpuMs), true),
  ]
}

async function during<T>(arm: Arm, say: Say, work: (running: RunningArm) => Promise<T>): Promise<T> {
  const running = await arm.start(mostClients, say)
  try {
    return await work(running)
  } finally {
    await running.stop()
  }
}

function spreadOf(figures: readonly number[]): Spread {
  const sorted = figures.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0
  return { min: at(0), median: at(0.5), max: at(1) }
}

const words = ({ min, median, max }: Spread) => `${median.toFixed(1)} (${min.toFixed(1)} to ${max.toFixed(1)})`
