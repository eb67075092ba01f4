import { setTimeout as delay } from 'node:timers/promises'
import type { Session } from '@shopstream/database'
import type { Owner, Reach } from '../shop-access.ts'
import type { Check, Found } from './checks.ts'
import type { Strays } from './strays.ts'
import { type Ground, type GroundOptions, type Needs, openGround, reaching } from './temporary-tables.ts'
import { findWritings, type Writing, type Writings, writtenInWords } from './writers.ts'

export interface Finding {
  /** Name of the check, and of its runbook. */
  check: string
  subject: string
  message: string
  commands: string[]
  /** Who wrote the records that it is about, where and when: the first of them. */
  records: Writing[]
}

export interface CheckVerdict {
  check: Check
  /** Rows it looked at. */
  looked: number
  findings: Finding[]
  /** There are more than were kept. */
  more: boolean
}

export interface Judgement {
  verdicts: CheckVerdict[]
  /** Of all topics that were read. */
  strays: Strays[]
}

export interface Options extends GroundOptions {
  checks: readonly Check[]
  /** How long a discrepancy must stand before it is one, in ms. */
  settleMs: number
}

/** Discrepancies of one check and database that are kept; a shop with more has another problem than their number. */
const kept = 1_000

/**
 * Judges a running shop. What looks like a discrepancy is looked at again after `settleMs`, with everything that has
 * happened meanwhile; only what both looks see is reported. Throws `CannotVerify` when a part cannot be asked.
 */
export async function judge(reach: Reach, { checks, settleMs, ...options }: Options): Promise<Judgement> {
  const { progress } = options
  const ground = await openGround(reach, needsOf(checks), options)
  try {
    const first = await look(ground, checks, progress)
    const suspects = first.filter(({ findings }) => findings.length > 0)
    if (suspects.length === 0) return { verdicts: first, strays: ground.strays() }
    const count = suspects.reduce((sum, { findings }) => sum + findings.length, 0)
    progress(`${count} things look wrong; looking again in ${settleMs / 1_000} s, as they may be under way`)
    await delay(settleMs)
    const second = await look(
      ground,
      suspects.map(({ check }) => check),
      progress,
    )
    return { verdicts: first.map((verdict) => confirmed(verdict, second)), strays: ground.strays() }
  } finally {
    await ground.close()
  }
}

/** What both looks have found, as the second one saw it. */
function confirmed(verdict: CheckVerdict, second: readonly CheckVerdict[]): CheckVerdict {
  const again = second.find(({ check }) => check === verdict.check)
  const seen = new Set(verdict.findings.map(({ subject }) => subject))
  return {
    ...verdict,
    findings: again?.findings.filter(({ subject }) => seen.has(subject)) ?? [],
    more: verdict.more && again?.more === true,
  }
}

async function look(ground: Ground, checks: readonly Check[], progress: Options['progress']): Promise<CheckVerdict[]> {
  await ground.refresh(needsOf(checks))
  // Databases side by side, the checks of each one after the other: it has one session.
  const owners = [...new Set(checks.flatMap((check) => Object.keys(check.at) as Owner[]))]
  const perDatabase = owners.map(async (owner) => {
    const results: CheckVerdict[] = []
    for (const check of checks) {
      if (!check.at[owner]) continue
      const begun = performance.now()
      results.push(await reaching(`the database of ${owner}`, () => lookInto(ground, check, owner)))
      progress(`${check.name} in ${owner}: ${((performance.now() - begun) / 1_000).toFixed(1)} s`)
    }
    return results
  })
  const all = (await Promise.all(perDatabase)).flat()
  return checks.map((check) => {
    const parts = all.filter((verdict) => verdict.check === check)
    return {
      check,
      looked: parts.reduce((sum, { looked }) => sum + looked, 0),
      findings: parts.flatMap(({ findings }) => findings),
      more: parts.some(({ more }) => more),
    }
  })
}

async function lookInto(ground: Ground, check: Check, owner: Owner): Promise<CheckVerdict> {
  const session = ground.sessions.get(owner)
  if (!session) throw new Error(`no session for ${owner}`)
  const [counted] = await session.query<{ count: bigint }>(`select (${check.looked(owner)})::bigint as count`)
  const rows = await session.query<Found>(
    `select * from (${check.sql(owner)}) as found order by subject limit ${kept + 1}`,
  )
  const told = rows.slice(0, kept)
  const records = await writingsOf(session, check, told)
  const findings = told.map((found, n) => ({
    check: check.name,
    subject: found.subject,
    message: check.message(found) + writtenInWords(records[n] ?? []),
    commands: check.commands(found),
    records: (records[n] ?? []).flatMap(({ told }) => told),
  }))
  return { check, looked: Number(counted?.count ?? 0), findings, more: rows.length > kept }
}

/** Of each finding, the records that it is about; asked for only once something was found. */
async function writingsOf(session: Session, check: Check, all: readonly Found[]): Promise<Writings[][]> {
  const refs = all.map((found) => check.about?.(found) ?? [])
  if (refs.every(({ length }) => length === 0)) return []
  const written = await findWritings(session, refs.flat())
  return refs.map(({ length }) => written.splice(0, length))
}

function needsOf(checks: readonly Check[]): Needs {
  const topics = new Map<Owner, Set<string>>()
  for (const { at } of checks) {
    for (const [owner, needed] of Object.entries(at) as [Owner, string[]][]) {
      topics.set(owner, new Set([...(topics.get(owner) ?? []), ...needed]))
    }
  }
  return {
    topics: new Map([...topics].map(([owner, names]) => [owner, [...names]])),
    orders: checks.some(({ needsOrders }) => needsOrders),
    held: checks.some(({ needsHeld }) => needsHeld),
  }
}
