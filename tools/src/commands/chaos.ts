/** `npm run chaos`: customers and faults in a shop of its own, and whether every answer stayed true. */
import { randomInt } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { kafkaClientFrom, kafkaClients } from '@shopstream/messaging/operations'
import { temporaryFolder } from '@shopstream/testing'
import { faultKinds } from '../proof/chaos/faults.ts'
import type { FaultKind } from '../proof/chaos/inflictions.ts'
import { type Report, runChaos } from '../proof/chaos/run.ts'
import { planFaults } from '../proof/chaos/schedule.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run chaos -- [--seed S] [--minutes M] [--faults KIND,...] [options]

Starts a shop of its own, with customers who order, cancel and heed their answers, and brings faults upon it; then heals
everything, waits for rest, and checks that nothing was lost and nothing happened twice: every answer that a client got
against the final state, and all that "npm run shop -- verify" checks. A run of two minutes or more has every kind of
fault. Exit code 1 with each discrepancy, or when a kind of fault could not be brought about; the logs are kept then.

A disk is not slowed down itself, which takes root and a device of its own; slow-broker and slow-postgres give the
process that uses it a tenth of the time instead.

  --seed S          any text; default: a random one, which is printed. The same seed gives the same faults at the same
                    times and the same wishes of each customer; processes and networks still take their own time
  --minutes M       how long faults come, default 2
  --faults KINDS    these kinds alone, separated by commas; --list shows them
  --list            shows the kinds of faults, and with --seed the schedule
  --customers N     default 8, and one of the staff
  --client NAME     the Kafka client of the shop: ${kafkaClients.join(' or ')}; default: what KAFKA_CLIENT says, else the first
  --previous REF    the commit of which services run beside today's for a while; default: the one before the last that
                    changed services, libs or schemas; "none": today's code, as where there is no git
  --folder F        where logs, answers, schedule and report go; default: a temporary one, removed after a success
  --keep            keeps the folder after a success, too
  --json            prints the report as JSON`

const options = readOptions(usage, {
  seed: { type: 'string' },
  minutes: { type: 'string', default: '2' },
  faults: { type: 'string' },
  list: { type: 'boolean', default: false },
  customers: { type: 'string', default: '8' },
  previous: { type: 'string' },
  client: { type: 'string' },
  folder: { type: 'string' },
  keep: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
})

function refuse(reason: string): never {
  process.stderr.write(`${reason}\n\n${usage}\n`)
  process.exit(2)
}

function numberOf(name: 'minutes' | 'customers', least: number, most: number): number {
  const value = Number(options[name])
  if (!(value >= least && value <= most))
    refuse(`--${name} takes a number from ${least} to ${most}, not ${options[name]}`)
  return value
}

function chosenKinds(): readonly FaultKind[] {
  if (options.faults === undefined) return faultKinds
  const names = options.faults.split(',').map((name) => name.trim())
  const unknown = names.filter((name) => !faultKinds.some(({ kind }) => kind === name))
  if (unknown.length > 0) refuse(`there is no fault ${unknown.join(', ')}: --list shows what there is`)
  return faultKinds.filter(({ kind }) => names.includes(kind))
}

function list(kinds: readonly FaultKind[], minutes: number): void {
  const width = Math.max(...kinds.map(({ kind }) => kind.length)) + 2
  for (const { kind, about } of kinds) console.log(`${kind.padEnd(width)}${about}`)
  if (options.seed === undefined) return
  console.log()
  for (const { at, kind, target, durationMs } of planFaults(options.seed, minutes * 60_000, kinds))
    console.log(
      `${seconds(at).padStart(8)}  ${kind.padEnd(width)}${target.padEnd(24)}${durationMs ? seconds(durationMs) : ''}`,
    )
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`

const counted = (counts: Record<string, number>) =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none'

/** The arguments that bring the same customers and faults. */
const again = (seed: string) =>
  Object.entries({ ...options, seed })
    .filter(([name]) => ['seed', 'minutes', 'faults', 'customers', 'previous', 'client'].includes(name))
    .map(([name, value]) => `--${name} ${value}`)
    .join(' ')

function print(report: Report, folder: string | undefined): void {
  const { seed, minutes, faults, operations, answers, orders, mails, events, previous, discrepancies } = report
  const lines = [
    `seed        ${seed}, ${minutes} minutes, ${report.customers} customers; beside today's services: ${previous}`,
    `client      ${kafkaClientFrom(process.env)}`,
    `faults      ${counted(faults)}`,
    ...Object.entries(operations).map(
      ([kind, outcomes], n) => `${(n ? '' : 'operations').padEnd(12)}${kind}: ${counted(outcomes)}`,
    ),
    ...report.missed.map((line, n) => `${(n ? '' : 'missed').padEnd(12)}${line}`),
    `answers     ${answers}`,
    `orders      ${counted(orders)}`,
    `mails       ${mails.distinct} by Message-ID, ${mails.accepted} accepted, ${mails.unanswered} of them without an answer`,
    `events      ${counted(events)}`,
    `verified    ${report.verified} rows`,
    `rest        ${report.secondsToRest === undefined ? 'never' : `after ${report.secondsToRest} s`}`,
    ...(folder ? [`kept in     ${folder}`] : []),
    '',
    ...discrepancies.map((line) => `WRONG  ${line}`),
    discrepancies.length === 0
      ? 'Nothing was lost, nothing happened twice, and every answer stayed true.'
      : `${discrepancies.length} discrepancies. Again: npm run chaos -- ${again(seed)}`,
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

async function main(): Promise<number> {
  if (options.client) process.env.KAFKA_CLIENT = options.client // as all processes of the shop read it
  if (!kafkaClients.some((name) => name === (process.env.KAFKA_CLIENT ?? name)))
    refuse(`there is no client ${process.env.KAFKA_CLIENT}`)
  const minutes = numberOf('minutes', 0.1, 1_440)
  const customers = numberOf('customers', 1, 200)
  const kinds = chosenKinds()
  if (options.list) {
    list(kinds, minutes)
    return 0
  }
  const seed = options.seed ?? String(randomInt(1_000_000_000))
  const folder = options.folder ? resolve(options.folder) : temporaryFolder('chaos')
  mkdirSync(folder, { recursive: true, mode: 0o711 })
  if (readdirSync(folder).length > 0) refuse(`${folder} is not empty; a run needs a folder of its own`)
  const say = (line: string) => void process.stderr.write(`${line}\n`)
  say(`seed ${seed}; logs, answers and schedule: ${folder}`)
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))
  const { previous } = options
  const report = await runChaos({ seed, minutes, customers, kinds, previous, folder, say, signal: interrupted.signal })
  writeFileSync(join(folder, 'report.json'), JSON.stringify(report, null, 2))
  const isGood = report.discrepancies.length === 0
  const keeps = !isGood || options.keep || options.folder !== undefined
  if (!keeps) rmSync(folder, { recursive: true, force: true })
  if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  else print(report, keeps ? folder : undefined)
  return isGood ? 0 : 1
}

process.exitCode = await main().catch((error: Error) => {
  process.stderr.write(`The run ended before it could be judged; logs and answers are kept. ${error.stack}\n`)
  return 1
})
