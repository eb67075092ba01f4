import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { createDatabase, sql } from '@shopstream/database'
import { createLogger } from '@shopstream/observability'
import { startProcess } from '@shopstream/testing'
import { orderOf } from '../local/client.ts'
import type { Load, Plan } from './load.ts'
import { cpuOf, type Say, total, treeOf, usedPer } from './measure.ts'

/** One of the stacks that are measured beside each other, on this machine and under the same load. */
export interface Arm {
  name: string
  /** What it does not do; printed beside its figures. */
  words: string
  /** Why it cannot run here; undefined when it can. */
  lacks(): string | undefined
  /** Starts everything with empty tables, with a plan for this many clients. */
  start(clients: number, say: Say): Promise<RunningArm>
}

export interface RunningArm {
  plan: Omit<Plan, 'seconds'>
  /** Orders whose confirmation mail has a row. */
  confirmed(): Promise<number>
  stop(): Promise<void>
}

export interface Throughput {
  /** Orders that were accepted, by the seconds until the last of them was confirmed. */
  perSecond: number
  /** Of each part, for one order; the load generator and this process are no part. */
  cpuMs: Record<string, number>
  clients: number
  /** From the last answer until the last confirmation. */
  drainedAfter: number
  load: Load
}

/** What was started, in this order; it is stopped in the other. */
export type Undo = (() => Promise<unknown>)[]

/** What `begin` starts, as one that can be stopped; when `begin` fails, what it had started is stopped. */
export async function startArm<T>(begin: (undo: Undo) => Promise<T>): Promise<T & { stop(): Promise<void> }> {
  const undo: Undo = []
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    return { ...(await begin(undo)), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Says so of one that cannot run here. */
export function isMissing(arm: Arm, say: Say): boolean {
  const lacks = arm.lacks()
  if (lacks) say(`${arm.name}: skipped, this machine lacks ${lacks}`)
  return lacks !== undefined
}

/** Runs `work` on an arm of its own, with so many clients, which is stopped afterwards. */
export async function during<T>(
  arm: Arm,
  clients: number,
  say: Say,
  work: (running: RunningArm) => Promise<T>,
): Promise<T> {
  const running = await arm.start(clients, say)
  try {
    return await work(running)
  } finally {
    await running.stop()
  }
}

/** A program of a reference; by default Node runs it, and it says `serving` when it is ready. */
export function startProgram(program: {
  name: string
  home: string
  args: string[]
  env: Record<string, string>
  port: number
  command?: string
  ready?: RegExp
}) {
  const { name, home, command = process.execPath, ready = /^serving$/m, env, ...rest } = program
  return startProcess({
    ...rest,
    name,
    command,
    ready,
    cwd: home,
    env: { PATH: process.env.PATH, SHOPSTREAM_STACK_PID: String(process.pid), ...env },
    logFile: join(home, `${name}.log`),
    pidFile: join(home, `${name}.pid`),
    readyLimitMs: 60_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 8_000,
  })
}

/** The products that a reference fills its tables with. */
export const skusOf = (count: number) => Array.from({ length: count }, (_, n) => `sku-${n}`)

/** One order for each client, of one product after the other. */
export const ordersOf = (tokens: readonly string[], skus: readonly string[]): Plan['clients'] =>
  tokens.map((token, n) => ({ token, body: JSON.stringify(orderOf(skus[n % skus.length] as string)) }))

/** Not measured: the processes that measure, and in ours the mail server and the supervisor. */
const aside = ['npm and the stack', 'load generator']
const drainLimitMs = 60_000

/** Accepted orders a second: clients wait for the answer only, the clock stops when all orders are confirmed. */
export async function measureThroughput(arm: RunningArm, clients: number, seconds: number): Promise<Throughput> {
  const confirmedBefore = await arm.confirmed()
  const before = cpuOf(treeOf(process.pid))
  const begun = performance.now()
  const load = await generate({ ...arm.plan, clients: arm.plan.clients.slice(0, clients), seconds })
  const answered = performance.now()
  while ((await arm.confirmed()) - confirmedBefore < load.accepted) {
    if (performance.now() - answered > drainLimitMs)
      throw new Error(`orders are not confirmed after ${drainLimitMs} ms`)
    await delay(20)
  }
  const ended = performance.now()
  const after = cpuOf(treeOf(process.pid))
  const used = Object.entries(usedPer(load.accepted / 1_000, before, after))
  const cpuMs = Object.fromEntries(used.filter(([part]) => !aside.includes(part)))
  return {
    perSecond: load.accepted / ((ended - begun) / 1_000),
    cpuMs,
    clients,
    drainedAfter: (ended - answered) / 1_000,
    load,
  }
}

/**
 * Doubles the clients until orders a second have twice not risen by 5 %, or the backlog of more than one client takes
 * over 10 s. Twice, because two clients do not share yet what one had waited for alone, and a machine may be busy for a
 * moment.
 */
export async function findMaximum(arm: RunningArm, seconds: number, say: Say): Promise<Throughput> {
  let best: Throughput | undefined
  let inVain = 0
  for (let clients = 1; clients <= arm.plan.clients.length && inVain < 2; clients *= 2) {
    const found = await measureThroughput(arm, clients, seconds)
    say(inWords(found))
    if (best && found.drainedAfter > 10) break
    const isBetter = !best || found.perSecond >= best.perSecond * 1.05
    inVain = isBetter ? 0 : inVain + 1
    if (isBetter) best = found
  }
  return best as Throughput
}

export const inWords = ({ perSecond, cpuMs, clients, drainedAfter, load }: Throughput) =>
  `${clients} clients: ${perSecond.toFixed(1)} orders/s, ${total(cpuMs).toFixed(1)} ms of CPU each (${Object.entries(
    cpuMs,
  )
    .toSorted(([, a], [, b]) => b - a)
    .map(([part, ms]) => `${part} ${ms.toFixed(1)}`)
    .join(
      ', ',
    )}); drained after ${drainedAfter.toFixed(1)} s; answers after ${load.milliseconds.p50.toFixed(0)} ms, 99 % within ${load.milliseconds.p99.toFixed(0)}${Object.keys(load.refused).length > 0 ? `; refused: ${JSON.stringify(load.refused)}` : ''}`

/** Runs the load generator; throws when it ends without a result. */
export async function generate(plan: Plan): Promise<Load> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'load.ts')], { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end(JSON.stringify(plan))
  const printed = await text(child.stdout)
  if (printed === '') throw new Error('the load generator ended without a result; what it said is above')
  return JSON.parse(printed) as Load
}

/** Asks a database for a number, such as how many mails have a row. */
export function openCounter(url: string, query: string) {
  const logger = createLogger({ service: 'bench', level: 'warn', format: 'pretty' })
  const database = createDatabase({ url, poolSize: 1, applicationName: 'bench', logger })
  return {
    async count(): Promise<number> {
      const { rows } = await sql.raw<{ n: number }>(query).execute(database.query)
      return rows[0]?.n ?? 0
    },
    close: () => database.close(),
  }
}
