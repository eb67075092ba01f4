/** `npm run foreign`: a producer in another language beside orders, and whether it delays or loses any of them. */
import { randomInt } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { type KafkaClient, kafkaClients } from '@shopstream/messaging/operations'
import { temporaryFolder } from '@shopstream/testing'
import type { Report } from '../proof/foreign/assess.ts'
import type { Delays, Line } from '../proof/foreign/judge.ts'
import { machineLoad, runForeign } from '../proof/foreign/run.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run foreign -- [--minutes M] [--orders N] [--seed S] [options]

Starts a shop of its own, with customers who order at an even rate, and beside them a producer in Python (librdkafka) that
writes what it may: first everything odd that can be read (every codec, null and odd headers and keys, garbage, messages
of up to 1 MB, aborted transactions) into every partition of every topic; then also bombs and undecodable batches into two
partitions of the orders' topics, and a transaction that stays open into a third. What cannot be read is stepped over as
an operator would. Each order is timed from its post to its decision, also in a minute before without the producer.
Exit code 1 when a line of the proof does not hold; the logs are kept then. Needs Python 3.10 with venv, and pip's
registry the first time.

  --minutes M       how long the producer writes, default 5
  --orders N        orders in these minutes, default 2000
  --rate R          messages a second that it writes, default 24: about as many as the shop's own
  --seed S          any text; default: a random one, which is printed. The same seed gives the same messages and partitions
  --client CLIENT   which client of Kafka the services use: ${kafkaClients.join(', ')}; default: KAFKA_CLIENT, else kafkajs
  --keep            keeps the folder with the logs after a success, too
  --json            prints the report as JSON`

const options = readOptions(usage, {
  minutes: { type: 'string', default: '5' },
  orders: { type: 'string', default: '2000' },
  rate: { type: 'string', default: '24' },
  seed: { type: 'string' },
  client: { type: 'string', default: process.env.KAFKA_CLIENT ?? 'kafkajs' },
  keep: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
})

function refuse(reason: string): never {
  process.stderr.write(`${reason}\n\n${usage}\n`)
  process.exit(2)
}

function numberOf(name: 'minutes' | 'orders' | 'rate', least: number, most: number): number {
  const value = Number(options[name])
  if (!(value >= least && value <= most))
    refuse(`--${name} takes a number from ${least} to ${most}, not ${options[name]}`)
  return value
}

function chosenClient(): KafkaClient {
  return (
    kafkaClients.find((name) => name === options.client) ??
    refuse(`--client takes ${kafkaClients.join(' or ')}, not ${options.client}`)
  )
}

const counted = (counts: Record<string, number>) =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none'

const inWords = ({ count, median, p99, max }: Delays) =>
  `${count} orders, decided after ${Math.round(median)} ms (median), ${Math.round(p99)} ms (99 %), ${Math.round(max)} ms at most`

const labelled = (label: string, lines: readonly string[]) =>
  lines.map((line, n) => `${(n ? '' : label).padEnd(12)}${line}`)

/** Delays say little where others want the same cores: orders wait for their turn then. */
function busy(cores: Report['cores']): string[] {
  const most = Math.max(...Object.values(cores).map((used) => used[machineLoad] ?? 0))
  if (most <= 2 * availableParallelism()) return []
  return [
    `BUSY        ${most} processes wanted the ${availableParallelism()} cores of this machine: judge delays elsewhere`,
  ]
}

const shown = 5

function lineInWords({ claim, told, against }: Line): string[] {
  const more = against.length > shown ? [`       and ${against.length - shown} more: report.json has them all`] : []
  const details = against.slice(0, shown).map((one) => `       ${one}`)
  return [`${against.length === 0 ? 'HOLDS' : 'FAILS'}  ${claim}: ${told}`, ...details, ...more]
}

function print(
  { delays, foreign, unreadable, parked, cores, megabytes, proof, ...run }: Report,
  folder: string | undefined,
) {
  const lines = [
    `seed        ${run.seed}, ${run.minutes} minutes, client ${run.client}`,
    ...labelled(
      'orders',
      Object.entries(delays).map(([phase, ofPhase]) => `${phase}: ${inWords(ofPhase)}`),
    ),
    `written     ${counted(foreign.written)}`,
    `refused     by the broker: ${counted(foreign.refused)}`,
    `transaction ${counted(foreign.transactions)}`,
    `parked      ${counted(parked)}`,
    ...labelled(
      'unreadable',
      unreadable.map(({ place, reason, groups }) => `${place} (${groups.join(', ')}): ${reason}`),
    ),
    ...labelled(
      'cores',
      Object.entries(cores).map(([phase, used]) => `${phase}: ${counted(used)}`),
    ),
    `memory      at most, in MB: ${counted(megabytes)}`,
    ...busy(cores),
    ...(folder ? [`kept in     ${folder}`] : []),
    '',
    ...proof.flatMap(lineInWords),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

async function main(): Promise<number> {
  const minutes = numberOf('minutes', 0.5, 10) // a customer's token is good for 15, with the minute before
  const orders = numberOf('orders', 60, 100_000)
  const rate = numberOf('rate', 1, 1_000)
  const client = chosenClient()
  const seed = options.seed ?? String(randomInt(1_000_000_000))
  const folder = temporaryFolder('foreign')
  const say = (line: string) => void process.stderr.write(`${line}\n`)
  say(`seed ${seed}; logs: ${folder}`)
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))
  const report = await runForeign({ seed, minutes, orders, rate, client, folder, say, signal: interrupted.signal })
  writeFileSync(join(folder, 'report.json'), JSON.stringify(report, null, 2))
  const isProven = report.proof.every(({ against }) => against.length === 0)
  const keeps = !isProven || options.keep
  if (!keeps) rmSync(folder, { recursive: true, force: true })
  if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  else print(report, keeps ? folder : undefined)
  return isProven ? 0 : 1
}

process.exitCode = await main().catch((error: Error) => {
  process.stderr.write(`The run ended before it could be judged; the logs are kept. ${error.stack}\n`)
  return 1
})
