import { type Database, gather } from '@shopstream/database'
import { createAlarm, pause, type ReadinessCheck } from '@shopstream/messaging'
import {
  Counter,
  childOf,
  currentTrace,
  formatTraceparent,
  type Logger,
  parseTraceparent,
  type Registry,
  runInTrace,
  type TraceContext,
} from '@shopstream/observability'
import { mailsDue } from '../causes/queries.ts'
import { composeMail, type MailSource, messageIdOf } from '../mails/mail.ts'
import { produces } from '../produces.ts'
import type { Lane, Tables } from '../tables.ts'
import type { Answers } from './answers.ts'
import type { DueFloor } from './due-floor.ts'
import {
  type Decision,
  decideRetry,
  isAnswer,
  leftReason,
  paced,
  pauseAfter,
  reasonOf,
  type SendingPolicy,
  type SmtpError,
  type Trouble,
  troubleOf,
} from './policy.ts'
import {
  type ClaimedMail,
  claimDue,
  type Failure,
  isClaimed,
  markFailed,
  markSent,
  putBack,
  renewClaims,
} from './queries.ts'
import type { MailTransport } from './smtp.ts'

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
  count: (outcome: Outcome) => void
}

export type Outcome = 'sent' | 'failed' | 'deferred' | 'refused' | 'unreachable' | 'unknown'

/** A mail in hand. */
interface Work {
  mail: ClaimedMail
  /** When it was about to be claimed, by performance.now(). */
  begunAt: number
  /** When it had a connection, by performance.now(); undefined before. */
  connectedAt?: number
  /** Another mail of its recipient is in hand. */
  waits?: boolean
  /** The attempt is over, and what came of it is being written down. */
  isOver?: boolean
  /** It is to be due again at a time of its own, which its lease must not put off. */
  isGivenBack?: boolean
  done: Promise<void>
}

/** A mail that has gone out, with when, and what its attempt belonged to. */
interface SentMail extends ClaimedMail {
  sentAt: Date
  trace: TraceContext | undefined
}

/** Mails that are written down as sent in one transaction, at the most. */
const notedTogether = 50
/** A hand that is free waits so long for others at the most, in ms: a claim costs as much for one mail as for four. */
const claimedTogetherMs = 5

/**
 * Claims as many mails as it has free hands, sends each outside of any transaction, and writes down what became of it.
 * While the server is unreachable it stops claiming, and then tries with one mail at a time until one goes through.
 */
export function createSender(options: SenderOptions): Sender {
  const { database, lane, transport, floor, answers, from, optOutLinkOf, policy, logger, count } = options
  const lanePolicy = policy.lanes[lane]
  const stopping = new AbortController()
  const givingUp = new AbortController()
  const alarm = createAlarm(stopping.signal)
  /** By id. What has become of a mail is known here alone until it is written down, so it stays here until then. */
  const inHand = new Map<string, Work>()
  // By performance.now(): by the wall clock, mails stood still for as long as it was set back (chaos, seed 8).
  let nextAt = 0
  let unreachable = { times: 0, until: 0, reason: '' }
  let reachedAt = Number.NEGATIVE_INFINITY
  let renewal: Promise<void> | undefined
  /** Whether the last look has found all that it was to: there may be more, for which a free hand is to look. */
  let mayBeMore = true
  /** The last mail in hand of each recipient, behind which the next one waits. */
  const lastOf = new Map<string, Work>()
  let stopListening = () => {}
  let running = Promise.resolve()

  async function run() {
    while (!stopping.signal.aborted) {
      try {
        await claimAndBegin()
      } catch (error) {
        logger.warn({ err: error }, 'mails could not be claimed; tried again')
        await alarm.wait(policy.pollMs)
      }
    }
  }

  /** Begins what is due; waits when there is nothing to do or no hand is free. */
  async function claimAndBegin() {
    const pause = Math.max(unreachable.until, nextAt) - performance.now()
    if (pause > 0) return alarm.wait(pause)
    await untilHandsAreFree()
    const free = freeHands()
    const begunAt = performance.now()
    const claim = { lane, limit: free, leaseMs: policy.leaseMs, inHand: [...inHand.keys()], floor }
    const claimed = free > 0 ? await database.transaction((tx) => claimDue(tx, claim)) : []
    mayBeMore = claimed.length >= free
    for (const mail of claimed) begin({ mail, begunAt, done: Promise.resolve() })
    nextAt = paced(lanePolicy, nextAt, claimed.length, performance.now())
    if (!mayBeMore || free <= 0) await alarm.wait(policy.pollMs)
  }

  /** Half of them, when mails go out one after the other, or {@link claimedTogetherMs}. */
  async function untilHandsAreFree() {
    const until = performance.now() + claimedTogetherMs
    const isToWait = () =>
      !stopping.signal.aborted && inHand.size > 0 && freeHands() > 0 && freeHands() < lanePolicy.concurrency / 2
    for (let left = claimedTogetherMs; left > 0 && isToWait(); left = until - performance.now()) await alarm.wait(left)
  }

  /** Mails that the server or a mail before them lets wait hold none, up to a number of them; nor those only to be written down. */
  function freeHands(): number {
    const now = performance.now()
    const held = [...inHand.values()].filter(({ isOver }) => !isOver)
    const aside = held.filter(({ waits, connectedAt = now }) => waits || now - connectedAt > policy.asideMs).length
    const hands = unreachable.times > 0 ? 1 : lanePolicy.concurrency
    return hands + Math.min(aside, policy.asideMax) - held.length
  }

  function begin(work: Work) {
    const { mail } = work
    const before = lastOf.get(mail.userId)
    inHand.set(mail.id, work)
    lastOf.set(mail.userId, work)
    const inTurn = async () => {
      work.waits = before !== undefined
      await before?.done // that an order is confirmed is told before that it was shipped
      work.waits = false
      await deliver(work)
    }
    work.done = runInTrace(childOf(parseTraceparent(mail.traceparent ?? undefined)), inTurn)
      .catch((error: unknown) => {
        // This process ends. The lease ends by itself and the mail is sent again, with the same Message-ID.
        logger.warn({ err: error, notificationId: mail.id }, 'what became of a mail could not be written down')
      })
      .finally(() => {
        inHand.delete(mail.id)
        if (lastOf.get(mail.userId) === work) lastOf.delete(mail.userId)
        if (mayBeMore) alarm.wake()
      })
  }

  async function deliver(work: Work) {
    if (work.mail.wasLeft && (await settleLeft(work))) return
    const failure = await attempt(work)
    work.isOver = true
    if (mayBeMore) alarm.wake()
    if (failure) await settleFailure(work, failure)
    else await settleSent(work.mail)
  }

  /** What went wrong, if anything. */
  async function attempt(work: Work) {
    const { mail } = work
    let awaited: ReturnType<Answers['begin']> | undefined
    try {
      await transport.send(composeMail(from, sourceOf(mail, optOutLinkOf)), givingUp.signal, {
        connected() {
          work.connectedAt ??= performance.now()
          awaited ??= answers.begin()
        },
        mayGo: () => mayGo(work),
      })
      awaited?.heard()
      return undefined
    } catch (error) {
      const failure = error as SmtpError
      awaited?.heard(isAnswer(failure) ? undefined : reasonOf(failure))
      // What SMTP says may hold the address, and its reason is kept without; anything else is a fault of ours.
      if (failure.code === undefined) logger.error({ err: error, notificationId: mail.id }, 'a mail could not be made')
      return failure
    }
  }

  /** A server may take a minute to greet, or to take a recipient, who has opted out by then, or was erased. */
  async function mayGo({ mail, begunAt }: Work): Promise<boolean> {
    if (performance.now() - begunAt < policy.lookAgainMs) return true
    return isClaimed(database.query, mail).catch((error) => {
      logger.debug({ err: error }, 'whether a mail is still to be sent cannot be seen now')
      return false
    })
  }

  async function settleSent(mail: ClaimedMail) {
    reached()
    const sent = { ...mail, sentAt: new Date(), trace: currentTrace() }
    await untilNoted(mail, (isFirst) => (isFirst ? noteTogether(sent) : noteSent([sent])))
    report(mail, 'sent')
  }

  /** What has gone out meanwhile, in one transaction. */
  const noteTogether = gather(notedTogether, async (mails: SentMail[]) => {
    await noteSent(mails)
    return mails.map(() => undefined)
  })

  const noteSent = (mails: readonly SentMail[]) =>
    database.transaction(async (tx) => {
      const sequences = await markSent(tx, mails)
      await produces.emit(
        tx,
        mails.flatMap((mail) => {
          const sequence = sequences.get(mail.id)
          return sequence === undefined ? [] : [sentEvent(mail, sequence)]
        }),
      )
    })

  /**
   * A process that is killed each minute would send a mail each minute, without end. The lease was a part of the pause;
   * false when it was all of it, and the mail may go out again.
   */
  async function settleLeft(work: Work): Promise<boolean> {
    const { problems, unknowns } = work.mail
    const decision = decideRetry('unknown', unknowns - 1, policy, Math.random())
    if (decision.do === 'retry') decision.inMs -= policy.leaseMs
    if (decision.do === 'retry' && decision.inMs <= 0) return false
    work.isOver = true
    await settle(work, decision, 'unknown', { problems, unknowns, reason: leftReason })
    return true
  }

  async function settleFailure(work: Work, error: SmtpError) {
    const { mail } = work
    const { problems, unknowns } = mail
    if (error.code === 'EABORT' && error.stage !== 'data') {
      const reason = error.detail ?? 'the service was stopped before the mail was sent'
      return giveBack(work, { inMs: 0, problems, unknowns, reason }) // nothing is written of one that was cancelled
    }
    const trouble = troubleOf(error)
    const reason = reasonOf(error)
    if (trouble === 'unreachable') lost(reason)
    else reached()
    const counter = trouble === 'unknown' ? 'unknowns' : 'problems'
    const decision = decideRetry(trouble, mail[counter], policy, Math.random())
    await settle(work, decision, trouble, { problems, unknowns, reason, [counter]: decision.problems })
  }

  async function settle(work: Work, decision: Decision, trouble: Trouble, failure: Failure) {
    if (decision.do === 'retry') await giveBack(work, { ...failure, inMs: decision.inMs })
    else await fail(work.mail, failure)
    report(work.mail, decision.do === 'retry' ? trouble : 'failed', failure.reason)
  }

  async function giveBack(work: Work, failure: Failure & { inMs: number }) {
    const { mail } = work
    work.isGivenBack = true
    mayBeMore = true // it can be due again at once
    await renewal // one that has begun before would end after what is written now, and undo the pause
    await untilNoted(mail, () => putBack(database.query, mail, failure))
  }

  const fail = (mail: ClaimedMail, failure: Failure) =>
    untilNoted(mail, () =>
      database.transaction(async (tx) => {
        const sequence = await markFailed(tx, mail, failure)
        if (sequence === undefined) return
        const data = { ...subjectOfEvent(mail), reason: failure.reason, failedAt: new Date() }
        await produces.emit(tx, [{ type: 'NotificationFailed', key: mail.id, sequence, data, causedBy: causeOf(mail) }])
      }),
    )

  /** A mail of which it is not written down that it has gone out would go out again: that is tried while the process lives. */
  async function untilNoted(mail: ClaimedMail, work: (isFirst: boolean) => Promise<void>): Promise<void> {
    for (let failures = 1; ; failures++) {
      const isLast = givingUp.signal.aborted
      try {
        return await work(failures === 1)
      } catch (error) {
        if (isLast) throw error
        const details = { err: error, notificationId: mail.id }
        if (failures === 1) logger.warn(details, 'what became of a mail cannot be written down now; tried again')
        await pause(pauseAfter(failures, policy.noting, Math.random()), givingUp.signal)
      }
    }
  }

  /** Also of a mail that has gone out while that cannot be written down. */
  function renew() {
    const claims = [...inHand.values()].filter(({ isGivenBack }) => !isGivenBack).map(({ mail }) => mail)
    if (claims.length === 0) return
    renewal ??= renewClaims(database.query, claims, policy.leaseMs)
      .catch((error) => logger.debug({ err: error }, 'claims cannot be renewed now'))
      .finally(() => {
        renewal = undefined
      })
  }

  function lost(reason: string) {
    if (unreachable.until > performance.now()) return // mails that were in hand together fail together, and count once
    const times = unreachable.times + 1
    if (times === 1) logger.warn({ reason }, 'the SMTP server cannot be reached; mails wait')
    unreachable = { times, reason, until: performance.now() + pauseAfter(times, policy.unreachable, Math.random()) }
  }

  function reached() {
    if (unreachable.times > 0) logger.info('the SMTP server can be reached again')
    unreachable = { times: 0, until: 0, reason: '' }
    reachedAt = performance.now()
  }

  function report(mail: ClaimedMail, outcome: Outcome, reason?: string) {
    count(outcome)
    const { id: notificationId, kind, attempts } = mail
    logger.debug({ notificationId, kind, attempts, outcome, reason }, 'a mail was tried')
  }

  return {
    start() {
      const renewing = setInterval(renew, policy.leaseMs / 3)
      const stopWaking = database.on(mailsDue, (ofLane) => {
        if (ofLane === undefined || ofLane === lane) alarm.wake()
      })
      stopListening = () => {
        stopWaking()
        clearInterval(renewing)
      }
      running = run()
    },
    async stop() {
      stopping.abort()
      const timer = setTimeout(() => givingUp.abort(), policy.finishMs)
      await running
      await Promise.all([...inHand.values()].map(({ done }) => done))
      clearTimeout(timer)
      stopListening()
    },
    check: {
      name: 'smtp',
      optional: true,
      async check() {
        const { times, until, reason } = unreachable
        if (until > performance.now()) throw unreachableBecause(reason)
        if (times === 0 && performance.now() - reachedAt < policy.reachedForMs) return answers.check()
        await transport.verify().catch((error: Error) => {
          throw unreachableBecause(error.message, error)
        })
        reached()
        alarm.wake()
        answers.check()
      },
    },
    laneCheck: {
      name: `${lane}-mails`,
      optional: true,
      check() {
        if (freeHands() > 0) return
        const waiting = [...inHand.values()].filter(({ isOver }) => !isOver)
        const standsForMs = performance.now() - Math.max(...waiting.map(({ begunAt }) => begunAt))
        if (standsForMs <= policy.silentMs) return
        throw new Error(
          `no hand was free for ${Math.round(standsForMs / 1_000)} s: ${waiting.length} mails wait for the SMTP server, and all others behind them`,
        )
      },
    },
  }
}

const unreachableBecause = (reason: string, cause?: Error) =>
  new Error(`the SMTP server cannot be reached (${reason}); mails wait`, { cause })

const subjectOfEvent = ({ id, userId, kind, causeId }: ClaimedMail) => ({ notificationId: id, userId, kind, causeId })

const sentEvent = (mail: SentMail, sequence: bigint) => ({
  type: 'NotificationSent' as const,
  key: mail.id,
  sequence,
  data: { ...subjectOfEvent(mail), messageId: messageIdOf(mail.causeId, mail.resends), sentAt: mail.sentAt },
  causedBy: causeOf(mail),
  ...(!mail.traceparent && mail.trace && { traceparent: formatTraceparent(mail.trace) }),
})

const causeOf = ({ causeId, mailing, traceparent }: ClaimedMail) => ({
  id: mailing?.id ?? causeId,
  ...(traceparent && { traceparent }),
})

function sourceOf(mail: ClaimedMail, optOutLinkOf: SenderOptions['optOutLinkOf']): MailSource {
  const { kind, userId, causeId, resends, facts, createdAt, mailing, email } = mail
  const common = { causeId, resends, createdAt, recipient: { email } }
  if (kind !== 'mailing') return { ...common, kind, facts }
  if (!mailing) throw new Error('the mailing of a notification is missing')
  return { ...common, kind, subject: mailing.subject, text: mailing.text, optOutLink: optOutLinkOf(userId) }
}

/** The counter of all lanes. */
export function outcomeCounter(metrics: Registry): (outcome: Outcome) => void {
  const counter = new Counter({
    name: 'shopstream_mail_attempts_total',
    help: 'Attempts to send a mail by what became of them.',
    labelNames: ['outcome'],
    registers: [metrics],
  })
  return (outcome) => counter.inc({ outcome })
}
