import type { Database } from '@shopstream/database'
import { createAlarm, type ReadinessCheck } from '@shopstream/messaging'
import {
  Counter,
  Failure,
  type Logger,
  parseTraceparent,
  type Registry,
  runInTrace,
  startSpan,
} from '@shopstream/observability'
import { mailsDue } from '../notifications/queries.ts'
import type { Kind, Lane, Tables } from '../tables.ts'
import { type Deliveries, deliver, deliveriesOf, type Outcome, reached, type Work } from './delivery.ts'
import type { DueFloor } from './due-floor.ts'
import { paced, type SendingPolicy } from './policy.ts'
import { claimDue, renewClaims } from './queries.ts'
import type { MailTransport } from './smtp.ts'
import type { Answers } from './smtp-replies.ts'

/** Sends what is due in one lane. Any number of instances may run on one database. */
export interface Sender {
  start(): void
  /**
   * Begins no further mail and finishes those in hand. When the SMTP server takes too long, those that it cannot have yet
   * are given back, and of the others the outcome is unknown.
   */
  stop(): Promise<void>
  /** Fails while the SMTP server cannot be reached; mails wait meanwhile, so it is optional. */
  readonly check: ReadinessCheck
  /** Fails while this lane stands still: its hands all wait for the server, which may answer the mails of the other. */
  readonly laneCheck: ReadinessCheck
}

export interface SenderOptions {
  database: Database<Tables>
  lane: Lane
  /** Of this lane alone. */
  transport: MailTransport
  /** Of this lane alone. */
  floor: DueFloor
  /** Of all lanes. */
  answers: Answers
  /** The sender of all mails. */
  from: string
  /** Where the recipient of a mailing can end them. */
  optOutLinkOf(userId: string): string | undefined
  policy: SendingPolicy
  logger: Logger
  /** Counts what became of an attempt; see {@link outcomeCounter}. */
  count: (kind: Kind, outcome: Outcome) => void
}

/** How long a free hand waits for others at most, in ms: a claim of four mails costs as much as a claim of one. */
const claimedTogetherMs = 5

/** What the hands of a lane share. */
interface Hands extends SenderOptions {
  deliveries: Deliveries
  stopping: AbortController
  givingUp: AbortController
  alarm: ReturnType<typeof createAlarm>
  /** By id. What has become of a mail is known here alone until it is written down, so it stays here until then. */
  inHand: Map<string, Work>
  /** By performance.now(): by the wall clock, mails stood still for as long as it was set back (chaos, seed 8). */
  nextAt: number
  renewal: Promise<void> | undefined
  /** Whether the last look has found as many as it asked for: there may be more, so a free hand looks again. */
  mayBeMore: boolean
}

/**
 * Claims as many mails as it has free hands, sends each outside of any transaction, and writes down what became of it.
 * While the server is unreachable it stops claiming, and then tries with one mail at a time until one goes through.
 */
export function createSender(options: SenderOptions): Sender {
  const { database, lane, policy } = options
  const hands = handsOf(options)
  const { stopping, givingUp, alarm, inHand } = hands
  let stopListening = () => {}
  let running = Promise.resolve()
  return {
    start() {
      const renewing = setInterval(() => renew(hands), policy.leaseMs / 3)
      const stopWaking = database.on(mailsDue, (ofLane) => {
        if (ofLane === undefined || ofLane === lane) alarm.wake()
      })
      stopListening = () => {
        stopWaking()
        clearInterval(renewing)
      }
      running = run(hands)
    },
    async stop() {
      stopping.abort()
      const timer = setTimeout(() => givingUp.abort(), policy.finishMs)
      await running
      await Promise.all([...inHand.values()].map(({ done }) => done))
      clearTimeout(timer)
      stopListening()
    },
    check: { name: 'smtp', optional: true, check: () => checkServer(hands) },
    laneCheck: { name: `${lane}-mails`, optional: true, check: () => checkLane(hands) },
  }
}

function handsOf(options: SenderOptions): Hands {
  const [stopping, givingUp] = [new AbortController(), new AbortController()]
  const alarm = createAlarm(stopping.signal)
  const deliveries = deliveriesOf({
    ...options,
    givingUp: givingUp.signal,
    freed: () => {
      if (hands.mayBeMore) alarm.wake()
    },
    givenBack: () => {
      hands.mayBeMore = true
    },
    renewal: () => hands.renewal,
  })
  const hands: Hands = {
    ...options,
    deliveries,
    stopping,
    givingUp,
    alarm,
    inHand: new Map(),
    nextAt: 0,
    renewal: undefined,
    mayBeMore: true,
  }
  return hands
}

async function run(hands: Hands) {
  const { stopping, alarm, policy, logger } = hands
  while (!stopping.signal.aborted) {
    try {
      await claimAndBegin(hands)
    } catch (error) {
      logger.warn({ err: error }, 'mails could not be claimed; tried again')
      await alarm.wait(policy.pollMs)
    }
  }
}

/** Begins what is due; waits when there is nothing to do or no hand is free. */
async function claimAndBegin(hands: Hands) {
  const { database, lane, floor, policy, alarm, inHand, deliveries } = hands
  const pause = Math.max(deliveries.unreachable.until, hands.nextAt) - performance.now()
  if (pause > 0) return alarm.wait(pause)
  await untilHandsAreFree(hands)
  const free = freeHands(hands)
  const begunAt = performance.now()
  const claim = { lane, limit: free, leaseMs: policy.leaseMs, inHand: [...inHand.keys()], floor }
  const claimed = free > 0 ? await database.transaction((tx) => claimDue(tx, claim)) : []
  hands.mayBeMore = claimed.length >= free
  for (const mail of claimed) begin(hands, { mail, begunAt, done: Promise.resolve() })
  hands.nextAt = paced(policy.lanes[lane], hands.nextAt, claimed.length, performance.now())
  if (!hands.mayBeMore || free <= 0) await alarm.wait(policy.pollMs)
}

/** Waits until half of them are free, while mails go out, or {@link claimedTogetherMs}. */
async function untilHandsAreFree(hands: Hands) {
  const { stopping, inHand, alarm, policy, lane } = hands
  const until = performance.now() + claimedTogetherMs
  const half = policy.lanes[lane].concurrency / 2
  const isToWait = () => !stopping.signal.aborted && inHand.size > 0 && freeHands(hands) > 0 && freeHands(hands) < half
  for (let left = claimedTogetherMs; left > 0 && isToWait(); left = until - performance.now()) await alarm.wait(left)
}

/** A mail put aside holds no hand, up to a number of them; nor does one whose outcome is only to be written down. */
function freeHands({ inHand, policy, lane, deliveries }: Hands): number {
  const now = performance.now()
  const held = [...inHand.values()].filter(({ isOver }) => !isOver)
  const aside = held.filter(({ connectedAt = now }) => now - connectedAt > policy.asideMs).length
  const hands = deliveries.unreachable.times > 0 ? 1 : policy.lanes[lane].concurrency
  return hands + Math.min(aside, policy.asideMax) - held.length
}

function begin(hands: Hands, work: Work) {
  const { inHand, deliveries, logger, alarm } = hands
  const { mail } = work
  inHand.set(mail.id, work)
  const span = startSpan('send mail', {
    kind: 'client',
    parent: parseTraceparent(mail.traceparent ?? undefined),
    attributes: { 'messaging.system': 'smtp', 'messaging.operation.type': 'send', 'messaging.message.id': mail.id },
  })
  work.done = runInTrace(span.context, () => deliver(deliveries, work))
    .then((failure) => span.end(failure && new Failure(failure.code ?? 'not-sent')))
    .catch((error: unknown) => {
      span.end(error)
      // This process ends. The lease ends by itself and the mail is sent again, with the same Message-ID.
      logger.warn({ err: error, notificationId: mail.id }, 'what became of a mail could not be written down')
    })
    .finally(() => {
      inHand.delete(mail.id)
      if (hands.mayBeMore) alarm.wake()
    })
}

/** Also renews a sent mail's lease while that cannot be written down. */
function renew(hands: Hands) {
  const { database, inHand, policy, logger } = hands
  const claims = [...inHand.values()].filter(({ isGivenBack }) => !isGivenBack).map(({ mail }) => mail)
  if (claims.length === 0) return
  hands.renewal ??= renewClaims(database.query, claims, policy.leaseMs)
    .catch((error) => logger.debug({ err: error }, 'claims cannot be renewed now'))
    .finally(() => {
      hands.renewal = undefined
    })
}

async function checkServer({ deliveries, answers, policy, transport, alarm }: Hands): Promise<void> {
  const { unreachable, reachedAt } = deliveries
  const { times, until, reason } = unreachable
  if (until > performance.now()) throw unreachableBecause(reason)
  if (times === 0 && performance.now() - reachedAt < policy.reachedForMs) return answers.check()
  await transport.verify().catch((error: Error) => {
    throw unreachableBecause(error.message, error)
  })
  reached(deliveries)
  alarm.wake()
  answers.check()
}

function checkLane(hands: Hands): void {
  if (freeHands(hands) > 0) return
  const waiting = [...hands.inHand.values()].filter(({ isOver }) => !isOver)
  const standsForMs = performance.now() - Math.max(...waiting.map(({ begunAt }) => begunAt))
  if (standsForMs <= hands.policy.silentMs) return
  throw new Error(
    `no hand was free for ${Math.round(standsForMs / 1_000)} s: ${waiting.length} mails wait for the SMTP server, and all others behind them`,
  )
}

const unreachableBecause = (reason: string, cause?: Error) =>
  new Error(`the SMTP server cannot be reached (${reason}); mails wait`, { cause })

/** The counter of all lanes. */
export function outcomeCounter(metrics: Registry): SenderOptions['count'] {
  const counter = new Counter({
    name: 'shopstream_mail_attempts_total',
    help: 'Attempts to send a mail by what became of them.',
    labelNames: ['kind', 'outcome'],
    registers: [metrics],
  })
  return (kind, outcome) => counter.inc({ kind, outcome })
}
