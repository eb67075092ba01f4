import { type Arm, during, findMaximum, inWords, isMissing, measureThroughput, type Throughput } from './arm.ts'
import { article } from './arm-article.ts'
import { ours } from './arm-ours.ts'
import { usual } from './arm-usual-way.ts'
import { workflow } from './arm-workflow.ts'
import { type Say, total } from './measure.ts'
import { compared, partsOf, type Result } from './results.ts'

const mostClients = 256
const warmUp = { clients: 16, seconds: 10 }
const searchSeconds = 6
const rounds = 3

/** What ours is measured beside, and how many times as many orders a second ours is to do. */
export const references = {
  orders: { arm: usual, goal: 5 },
  article: { arm: article, goal: 10 },
  workflow: { arm: workflow, goal: 3 },
}
/** The reference whose CPU an order of ours is measured beside. */
const cpuGoals = new Map([[article, 10]])

/**
 * Ours and the references in turns, each started anew for each round so that the others take nothing of the machine: the first
 * round finds the number of clients at which each does the most, the others repeat that.
 */
export async function beside(
  names: readonly (keyof typeof references)[],
  seconds: number,
  say: Say,
): Promise<Result[]> {
  const chosen = names.map((name) => ({ name, ...references[name] })).filter(({ arm }) => !isMissing(arm, say))
  if (chosen.length === 0) return []
  const found = new Map<Arm, Throughput[]>([ours, ...chosen.map(({ arm }) => arm)].map((arm) => [arm, []]))
  for (const arm of found.keys()) say(`${arm.name}: ${arm.words}`)
  for (let round = 1; round <= rounds; round++) {
    for (const [arm, figures] of found) {
      say(`round ${round} of ${rounds}: ${arm.name}`)
      const one = await during(arm, mostClients, say, async (running) => {
        await measureThroughput(running, warmUp.clients, warmUp.seconds)
        const clients = figures[0]?.clients ?? (await findMaximum(running, searchSeconds, say)).clients
        return measureThroughput(running, clients, seconds)
      })
      say(inWords(one))
      figures.push(one)
    }
  }
  const of = <T>(arm: Arm, figure: (one: Throughput) => T) => (found.get(arm) ?? []).map(figure)
  const perSecond = ({ perSecond }: Throughput) => perSecond
  const cpu = ({ cpuMs }: Throughput) => total(cpuMs)
  const parts = (arm: Arm) => partsOf(of(arm, ({ cpuMs }) => cpuMs))
  return chosen.flatMap(({ name, arm, goal }) => {
    const reference = (figure: typeof cpu) => ({ name: arm.name, figures: of(arm, figure) })
    const throughput = { name, unit: 'orders/s', goal, ours: of(ours, perSecond), reference: reference(perSecond) }
    const cost = compared({
      name: `${name}-cpu`,
      unit: 'ms of CPU per order',
      goal: cpuGoals.get(arm),
      ours: of(ours, cpu),
      reference: reference(cpu),
      lessIsBetter: true,
    })
    Object.assign(cost.ours, { parts: parts(ours) })
    Object.assign(cost.reference ?? {}, { parts: parts(arm) })
    return [compared(throughput), cost]
  })
}
