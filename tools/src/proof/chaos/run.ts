import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { verify } from '../../operations/verify.ts'
import { checkAnswers, emailOf } from './answers.ts'
import { consumedTopics, waitForRest } from './at-rest.ts'
import { type Credentials, createClient } from './client.ts'
import { liveAsCustomer, liveAsStaff, openShop, skus } from './customers.ts'
import { mailAnswerSeconds } from './faults.ts'
import { deadLetters, readFinalState } from './final-state.ts'
import type { FaultKind, FaultSurroundings } from './inflictions.ts'
import { type Ledger, openLedger, outcomeOf } from './ledger.ts'
import { previousVersion, thisVersion } from './previous-version.ts'
import { createRandom } from './random.ts'
import { type PlannedFault, planFaults } from './schedule.ts'
import { type Arena, openArena } from './shop-under-chaos.ts'

export interface ChaosOptions {
  seed: string
  minutes: number
  customers: number
  kinds: readonly FaultKind[]
  /** A commit whose services run beside today's for a while; by default the one before. `none`: today's, once more. */
  previous?: string | undefined
  /** Holds logs, answers, schedule and report. */
  folder: string
  say(line: string): void
  signal: AbortSignal
}

/** A planned fault and what came of it. */
export interface Fault extends PlannedFault {
  /** ms after the beginning; undefined when it was not brought about. */
  begun?: number
  healed?: number
  /** Why it could not be brought about, the last time that it was tried. */
  failed?: string
}

export interface Report {
  seed: string
  minutes: number
  customers: number
  /** What ran beside the services. */
  previous: string
  /** How often each kind was brought about; 0 where it never was. */
  faults: Record<string, number>
  /** Planned faults that could not be brought about, and why. */
  missed: string[]
  /** By kind and outcome. */
  operations: Record<string, Record<string, number>>
  answers: number
  orders: Record<string, number>
  mails: { accepted: number; distinct: number; unanswered: number }
  events: Record<string, number>
  secondsToRest: number | undefined
  /** Rows that `npm run shop -- verify` looked at. */
  verified: number
  /** What is wrong; empty when nothing was lost and nothing happened twice. */
  discrepancies: string[]
}

/** Long enough to be no timeout by itself, short enough that outages meet it. */
const deadlineSeconds = 25

/** Runs a shop in chaos and says what came of it. Throws when the shop does not start or cannot be asked in the end. */
export async function runChaos(options: ChaosOptions): Promise<Report> {
  const { seed, minutes, customers, kinds, folder, say, signal } = options
  const previous =
    options.previous === 'none' ? thisVersion : await previousVersion(join(folder, 'previous'), options.previous)
  const plan = planFaults(seed, minutes * 60_000, kinds)
  writeFileSync(join(folder, 'schedule.json'), JSON.stringify(plan, null, 2))
  const arena = await openArena({
    folder,
    env: {
      RESERVATION_DEADLINE_SECONDS: String(deadlineSeconds),
      SMTP_ANSWER_TIMEOUT_SECONDS: String(mailAnswerSeconds),
      LOG_LEVEL: 'info',
    },
    progress: () => {},
    signal,
  })
  try {
    const around: FaultSurroundings = { arena, previous, consumed: await consumedTopics() }
    const ledger = openLedger(join(folder, 'answers.jsonl'))
    const people = new Map<string, Credentials>()
    for (let n = 1; n <= customers; n++) {
      const name = `customer-${n}`
      people.set(name, { email: emailOf(name), password: `the password of ${name}` })
    }
    const startedAt = Date.now()
    const faults = await play(options, around, ledger, people, plan)
    writeFileSync(join(folder, 'faults.json'), JSON.stringify(faults, null, 2))
    say('everything is healed; waiting for rest')
    const healed = performance.now()
    const problem = await waitForRest(arena, around.consumed).then(
      () => undefined,
      (error: Error) => error.message,
    )
    const secondsToRest = problem ? undefined : Math.round((performance.now() - healed) / 1_000)
    say(problem ?? `at rest after ${secondsToRest} s; checking`)
    const report = await assess({ options, arena, ledger, people, faults, startedAt, problem })
    return { seed, minutes, customers, previous: previous.name, ...report, secondsToRest }
  } finally {
    await arena.close()
  }
}

/** Lets customers and faults loose, and returns when the last of both has ended. */
async function play(
  { seed, minutes, kinds, say, signal }: ChaosOptions,
  around: FaultSurroundings,
  ledger: Ledger,
  people: ReadonlyMap<string, Credentials>,
  plan: readonly PlannedFault[],
): Promise<Fault[]> {
  const { shop } = around.arena
  const staff = createClient(shop.gatewayUrl, ledger, 'staff', shop.staff)
  await openShop(staff)
  const over = new AbortController()
  signal.addEventListener('abort', () => over.abort(), { once: true })
  const lives = [...people].map(([name, credentials]) =>
    liveAsCustomer(
      createClient(shop.gatewayUrl, ledger, name, credentials),
      credentials,
      createRandom(`${seed} ${name}`),
      over.signal,
    ),
  )
  const begun = performance.now()
  const active = new Set<Fault>()
  const faults = plan.map((planned): Fault => ({ ...planned }))
  const turns = new Map<string, Promise<void>>()
  const happening = faults.map((fault) => {
    const kind = kinds.find((one) => one.kind === fault.kind) as FaultKind
    const places = kind.occupies(fault.target)
    // One after the other in the same place, also where one of them took longer than planned.
    const before = places.flatMap((place) => turns.get(place) ?? [])
    const turn = Promise.all(before).then(() =>
      bringAbout(kind, fault, around, { begun, active, stop: over.signal, lastTryAt: minutes * 60_000 }),
    )
    for (const place of places) turns.set(place, turn)
    return turn
  })
  const report = setInterval(() => {
    const seconds = Math.round((performance.now() - begun) / 1_000)
    const now = [...active].map(({ kind, target }) => `${kind} ${target}`).join(', ') || 'nothing'
    const past = faults.filter(({ healed }) => healed !== undefined).length
    say(`${seconds} s: ${ledger.operations.length} operations, ${past} faults; now: ${now}`)
  }, 10_000)
  try {
    lives.push(liveAsStaff(staff, createRandom(`${seed} staff`), over.signal))
    await delay(minutes * 60_000, undefined, { signal: over.signal }).catch(() => {}) // interrupted
    await Promise.all(happening)
    over.abort()
    await Promise.all(lives)
    signal.throwIfAborted()
  } finally {
    clearInterval(report)
  }
  return faults
}

/** Brings it about when its time has come, or as soon after that as it can be. */
async function bringAbout(
  kind: FaultKind,
  fault: Fault,
  around: FaultSurroundings,
  { begun, active, stop, lastTryAt }: { begun: number; active: Set<Fault>; stop: AbortSignal; lastTryAt: number },
): Promise<void> {
  const since = () => Math.round(performance.now() - begun)
  const wait = (ms: number) => delay(Math.max(0, ms), undefined, { signal: stop }).catch(() => {}) // interrupted
  await wait(fault.at - since())
  active.add(fault)
  while (!stop.aborted && fault.healed === undefined && (fault.failed === undefined || since() < lastTryAt)) {
    fault.begun = since()
    try {
      await kind.inflict(around, fault, wait(fault.durationMs))
      fault.healed = since()
    } catch (error) {
      fault.failed = (error as Error).message
      await wait(1_000)
    }
  }
  active.delete(fault)
}

interface Played {
  options: ChaosOptions
  arena: Arena
  ledger: Ledger
  people: ReadonlyMap<string, Credentials>
  faults: readonly Fault[]
  /** Of the faults' times, in ms since 1970; a moment before it. */
  startedAt: number
  /** Why there is no rest. */
  problem: string | undefined
}

/** Every kind comes in a run of this length; one that did not was not possible all the time. */
const minutesForAll = 2

async function assess({ options, arena, ledger, people, faults, startedAt, problem }: Played) {
  const { operations } = ledger
  const listed = operations
    .filter(({ kind }) => kind === 'product')
    .map(({ path }) => path.slice('/v1/products/'.length))
  const final = {
    ...(await readFinalState(arena, people, [...new Set([...skus, ...listed])])),
    mailFaults: [...mailFaults(options.kinds, faults, startedAt), ...cutShort(options.folder)],
  }
  const givenUp = Object.values(arena.shop.services).filter((service) => service.givenUp)
  const done = faults.filter(({ healed }) => healed !== undefined)
  const byKind = countBy(done, ({ kind }) => kind)
  const missing = options.kinds.filter(({ kind }) => options.minutes >= minutesForAll && !byKind[kind])
  const proof = await verify(arena.reach, { settleMs: 10_000 })
  const discrepancies = [
    ...(problem ? [problem] : []),
    ...givenUp.map(({ name }) => `${name} kept dying and was not started any more`),
    ...(await deadLetters(arena)),
    ...checkAnswers(operations, final),
    ...proof.checks.flatMap(({ name, findings }) => findings.map(({ message }) => `${name}: ${message}`)),
    ...missing.map(({ kind }) => `no ${kind} was brought about, so that nothing is known of it`),
  ]
  const statuses = [...final.orders.values()].map(({ status }) => status)
  return {
    faults: Object.fromEntries(options.kinds.map(({ kind }) => [kind, byKind[kind] ?? 0])),
    missed: faults.flatMap(({ kind, target, healed, failed }) =>
      healed === undefined ? [`${kind} ${target}: ${failed ?? 'its turn did not come'}`] : [],
    ),
    verified: proof.rows,
    operations: Object.fromEntries(
      [...Map.groupBy(operations, ({ kind }) => kind)].map(([kind, ofKind]) => [kind, countBy(ofKind, outcomeOf)]),
    ),
    answers: operations.reduce((sum, { attempts }) => sum + attempts.filter(({ status }) => status).length, 0),
    orders: countBy(statuses, (status) => status),
    mails: {
      accepted: final.mails.length,
      distinct: new Set(final.mails.map(({ messageId }) => messageId)).size,
      unanswered: final.mails.filter(({ unanswered }) => unanswered).length,
    },
    events: await countEvents(arena),
    discrepancies,
  }
}

/** A mail that was under way when a process was killed or stopped may be seen so much later. */
const seenLateMs = 5_000

/**
 * When answers of the SMTP server, or the knowledge of them, may have been lost by faults that do not mark the mail.
 */
function mailFaults(kinds: readonly FaultKind[], faults: readonly Fault[], startedAt: number) {
  const places = ['smtp', 'notification', 'beside notification']
  const toldByMails = ['late-mail', 'drop-mail']
  return faults.flatMap(({ kind, target, at, healed }) => {
    const occupied = kinds.find((one) => one.kind === kind)?.occupies(target) ?? []
    if (toldByMails.includes(kind) || !occupied.some((place) => places.includes(place))) return []
    return [
      { from: startedAt + at, to: healed === undefined ? Number.POSITIVE_INFINITY : startedAt + healed + seenLateMs },
    ]
  })
}

/**
 * When notification was told to stop and its time was over before it could write down what had gone out, as when its database
 * was slow just then: it ends as by a kill.
 */
function cutShort(folder: string) {
  const log = readFileSync(join(folder, 'logs', 'notification.log'), 'utf8')
  return [...log.matchAll(/"time":"([^"]+)"[^\n]*"msg":"not stopped after (\d+) ms"/g)].map(([, time = '', ms]) => {
    const ended = Date.parse(time)
    return { from: ended - Number(ms) - seenLateMs, to: ended + seenLateMs }
  })
}

/** Messages by topic, with those that were published again. */
async function countEvents({ reach }: Arena): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  const names = [
    'shop.user.v1',
    'shop.product.v1',
    'shop.stock.v1',
    'shop.reservation.v1',
    'shop.order.v1',
    'shop.notification.v1',
  ]
  await reach.bus.read({
    topics: names,
    toEnd: true,
    handle(messages) {
      const topic = messages[0]?.topic ?? ''
      counts[topic] = (counts[topic] ?? 0) + messages.length
    },
  })
  return counts
}

function countBy<T>(list: readonly T[], nameOf: (value: T) => string): Record<string, number> {
  const groups = [...Map.groupBy(list, nameOf)].map(([name, members]): [string, number] => [name, members.length])
  return Object.fromEntries(groups.sort(([a], [b]) => (a < b ? -1 : 1)))
}
