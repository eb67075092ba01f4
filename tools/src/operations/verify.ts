/** `npm run shop -- verify`: proves the invariants over a running shop; docs/verify.md says how. */
import { parseArgs } from 'node:util'
import { withSchemas } from '../schemas/wiring.ts'
import { toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { readServices } from './services.ts'
import { type Reach, reachHelp, withReach } from './shop-access.ts'
import { openBridges, undeliveredEvent } from './verify/bridges.ts'
import { type Check, checksFor, unreadableRecords } from './verify/checks.ts'
import { type CheckVerdict, judge } from './verify/judge.ts'
import { readProducers } from './verify/producers.ts'
import { type Strays, strayLines } from './verify/strays.ts'
import { CannotVerify } from './verify/temporary-tables.ts'

const checks = checksFor(withSchemas(await readServices()))
const width = Math.max(...checks.map(({ name }) => name.length)) + 2

export const usage = `Usage: npm run shop -- verify [--only CHECK,...] [--settle SECONDS] [--limit N] [--json]

Proves the invariants over the running shop, without stopping it: compares every database, every topic, and where each
group stands. What looks wrong is looked at again after a while, so that what is under way is not reported.

  --only CHECK,...   these checks alone, which also reads only what they need; what of that cannot be read is told as well
  --settle SECONDS   how long a discrepancy must stand before it is reported (default 30)
  --limit N          discrepancies printed for each check (default 20)
  --json             the whole result as one JSON object

Exits with 0 when nothing is wrong, 1 with discrepancies, 2 when a part of the shop could not be asked, or for options
that make no sense. Where only the broker of a bridge does not answer, all else is verified. How it is proven, and what is not: docs/verify.md
Who writes events beside the services is listed in the file that FOREIGN_PRODUCERS names, by source and keys; for the local
shop that is examples/producers.json by default. What stands in topics and is no event is noted, and is no discrepancy.
It writes nothing but temporary tables, which take about 3 KB per order while it runs.

${checks.map(({ name, promise }) => `  ${name.padEnd(width)}${promise}`).join('\n')}

${reachHelp}`

export interface VerifyOptions {
  /** Names of the checks; all by default. */
  only?: readonly string[]
  /** How long a discrepancy must stand before it is one, in ms; default 30,000. */
  settleMs?: number
  /** A line on what it does at the moment. */
  progress?: (line: string) => void
}

/**
 * Proves the invariants over a running shop, at rest or under load, and says what it looked at and what is wrong; see
 * docs/verify.md. It writes nothing but temporary tables. Throws `CannotVerify` with every part that cannot be asked,
 * because then nothing is proven, and a {@link UsageError} for a check that there is not.
 */
export async function verify(reach: Reach, options: VerifyOptions = {}): Promise<Summary> {
  const { only, settleMs = 30_000, progress = () => {} } = options
  const begun = performance.now()
  const chosen = only?.map(checkNamed) ?? checks
  const isListed = await readProducers(reach.producersFile)
  const held = chosen.find(({ needsHeld }) => needsHeld)
  const bridges = held ? await openBridges(reach) : { asked: [], unasked: [], away: [], close: async () => {} }
  try {
    const named = chosen.map((check) => (check === held ? undeliveredEvent(bridges.asked) : check))
    const { verdicts, strays } = await judge(reach, {
      checks: withUnreadable(named),
      settleMs,
      isListed,
      bridges,
      progress,
    })
    const told = verdicts.filter(({ check, findings }) => named.includes(check) || findings.length > 0)
    return summarise(
      told,
      { strays, bridges: bridges.unasked, away: bridges.away },
      (performance.now() - begun) / 1_000,
    )
  } finally {
    await bridges.close()
  }
}

/** Whoever reads a topic is told what of it could not be read: it makes every proof incomplete. */
function withUnreadable(chosen: readonly Check[]): readonly Check[] {
  const check = checkNamed(unreadableRecords)
  if (chosen.includes(check)) return chosen
  const perDatabase = Map.groupBy(
    chosen.flatMap(({ at }) => Object.entries(at)).filter(([, names]) => names.length > 0),
    ([owner]) => owner,
  )
  const at = [...perDatabase].map(([owner, ofOwner]) => [owner, [...new Set(ofOwner.flatMap(([, names]) => names))]])
  return at.length > 0 ? [{ ...check, at: Object.fromEntries(at) }, ...chosen] : chosen
}

export async function run(args: string[]): Promise<number> {
  const { only, settleMs, limit, json } = readArguments(args)
  const progress = sparingly((line) => process.stderr.write(`${line}\n`))
  try {
    const summary = await withReach((reach) => verify(reach, { ...(only && { only }), settleMs, progress }))
    if (json) console.log(toJson(summary, 2))
    else print(inWords(summary, limit))
    if (json && summary.away.length > 0) process.stderr.write(`${cannotBeAsked}\n${summary.away.join('\n')}\n`)
    return exitCodeOf(summary)
  } catch (error) {
    if (!(error instanceof CannotVerify || error instanceof Refusal)) throw error
    process.stderr.write(`${cannotBeAsked}\n${error.message}\n`)
    return 2
  }
}

const cannotBeAsked = 'Could not verify: this cannot be asked.'

/** What was found is wrong, whatever else could not be asked. */
export const exitCodeOf = ({ discrepancies, away }: Pick<Summary, 'discrepancies' | 'away'>): 0 | 1 | 2 =>
  discrepancies > 0 ? 1 : away.length > 0 ? 2 : 0

function readArguments(args: string[]) {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string' },
      settle: { type: 'string', default: '30' },
      limit: { type: 'string', default: '20' },
      json: { type: 'boolean', default: false },
    },
  })
  return {
    only: values.only?.split(',').map((name) => checkNamed(name.trim()).name),
    settleMs: numberOf('--settle', values.settle, /^\d{1,6}(\.\d+)?$/) * 1_000,
    limit: numberOf('--limit', values.limit, /^\d{1,6}$/),
    json: values.json,
  }
}

function checkNamed(name: string): Check {
  const check = checks.find((one) => one.name === name)
  if (!check) throw new UsageError(`There is no check ${name}. There are: ${checks.map((one) => one.name).join(', ')}`)
  return check
}

function numberOf(option: string, value: string, form: RegExp): number {
  if (!form.test(value)) throw new UsageError(`${option} ${value} is no number`)
  return Number(value)
}

interface Notes {
  /** What the topics hold that is no event, which is no discrepancy. */
  strays: readonly Strays[]
  /** Of which bridges nothing is proven, and why. */
  bridges: readonly string[]
  /** The brokers of bridges that could be asked, and did not answer: nothing is proven of those bridges either. */
  away: readonly string[]
}

function summarise(verdicts: readonly CheckVerdict[], notes: Notes, seconds: number) {
  return {
    discrepancies: verdicts.reduce((sum, { findings }) => sum + findings.length, 0),
    rows: verdicts.reduce((sum, { looked }) => sum + looked, 0),
    seconds: Math.round(seconds * 10) / 10,
    /** The most that this process has had in memory. */
    peakMegabytes: Math.round(process.resourceUsage().maxRSS / 1_024),
    ...notes,
    checks: verdicts.map(({ check: { name, promise }, looked, findings, more }) => ({
      name,
      promise,
      /** What to do about its discrepancies. */
      runbook: `docs/runbooks/${name}.md`,
      rows: looked,
      discrepancies: findings.length,
      more,
      findings,
    })),
  }
}

export type Summary = ReturnType<typeof summarise>

function inWords({ checks, rows, seconds, discrepancies, strays, bridges, away }: Summary, limit: number): string {
  const number = (value: number) => value.toLocaleString('en')
  const lines = checks.flatMap((check) => {
    const found = check.discrepancies === 0 ? 'ok' : `${check.more ? 'over ' : ''}${number(check.discrepancies)} found`
    const head = `${check.name.padEnd(width)}${found.padEnd(14)}${number(check.rows).padStart(12)} rows`
    const details = check.findings.slice(0, limit).flatMap(({ message, commands }) => {
      return [`  ${message}`, ...commands.map((command) => `      ${command}`)]
    })
    const rest = check.discrepancies - limit
    if (check.discrepancies > 0) details.push(`  What to do: ${check.runbook}`)
    return [
      head,
      ...details.slice(0, -1),
      ...(rest > 0 ? [`  and ${number(rest)} more (--limit)`] : []),
      ...details.slice(-1),
    ]
  })
  const result =
    discrepancies === 0
      ? `Nothing ${away.length > 0 ? 'else ' : ''}is wrong.`
      : `${number(discrepancies)} ${discrepancies === 1 ? 'discrepancy' : 'discrepancies'}.`
  const notes = [
    ...strays.flatMap((one) => ['', ...strayLines(one)]),
    ...(bridges.length > 0 ? ['', ...bridges] : []),
    ...(away.length > 0 ? ['', cannotBeAsked, ...away] : []), // also for who keeps this output alone
  ]
  return `${[...lines, ...notes].join('\n')}\n\n${result} Looked at ${number(rows)} rows in ${seconds} s.`
}

/** Of lines that tell of the same with another number, one a second. */
function sparingly(write: (line: string) => void): (line: string) => void {
  const last = new Map<string, number>()
  return (line) => {
    const kind = line.replace(/\d+/g, '#')
    const now = performance.now()
    if (now - (last.get(kind) ?? Number.NEGATIVE_INFINITY) < 1_000) return
    last.set(kind, now)
    write(line)
  }
}
