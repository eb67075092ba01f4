import { type Database, isUnavailable, type Transaction } from '@shopstream/database'
import { createAlarm, pause, type ReadinessCheck } from '@shopstream/messaging'
import { Counter, childOf, type Logger, parseTraceparent, type Registry, runInTrace } from '@shopstream/observability'
import { mailsDue } from '../causes/queries.ts'
import { composeMail, type MailSource, messageIdOf } from '../mails/mail.ts'
import { produces } from '../produces.ts'
import type { Lane, Tables } from '../tables.ts'
import { decideRetry, paced, pauseAfter, reasonOf, type SendingPolicy, type SmtpError, troubleOf } from './policy.ts'
import { type ClaimedMail, claimDue, markFailed, markSent, putBack } from './queries.ts'
import type { MailTransport } from './smtp.ts'

/** Sends what is due in one lane. Any number of instances may run on one database. */
export interface Sender {
  start(): void
  /** Begins no further mail and finishes those in hand; gives them back when the SMTP server takes too long. */
  stop(): Promise<void>
  /** Fails while the SMTP server cannot be reached; mails wait meanwhile, so it is optional. */
  readonly check: ReadinessCheck
}

export interface SenderOptions {
  database: Database<Tables>
  lane: Lane
  /** Of this lane alone. */
  transport: MailTransport
  /** The sender of all mails. */
  from: string
  policy: SendingPolicy
  logger: Logger
  /** Counts what became of an attempt; see {@link outcomeCounter}. */
  count: (outcome: Outcome) => void
}

export type Outcome = 'sent' | 'failed' | 'deferred' | 'refused' | 'unreachable'

/**
 * Claims as many mails as it has free hands, sends each outside of any transaction, and writes down what became of it.
 * While the server is unreachable it stops claiming, and then tries with one mail at a time until one goes through.
 */
export function createSender({ database, lane, transport, from, policy, logger, count }: SenderOptions): Sender {
  const lanePolicy = policy.lanes[lane]
  const stopping = new AbortController()
  const givingUp = new AbortController()
  const alarm = createAlarm(stopping.signal)
  const inHand = new Set<Promise<void>>()
  // By performance.now(): by the wall clock, mails stood still for as long as it was set back (chaos, seed 8).
  let nextAt = 0
  let unreachable = { times: 0, until: 0, reason: '' }
  let reachedAt = Number.NEGATIVE_INFINITY
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
    const hands = unreachable.times > 0 ? 1 : lanePolicy.concurrency
    const free = hands - inHand.size
    const claimed = free > 0 ? await claimDue(database.query, { lane, limit: free, leaseMs: policy.leaseMs }) : []
    for (const mail of claimed) begin(mail)
    nextAt = paced(lanePolicy, nextAt, claimed.length, performance.now())
    if (claimed.length < free || free <= 0) await alarm.wait(policy.pollMs)
  }

  function begin(mail: ClaimedMail) {
    const work = runInTrace(childOf(parseTraceparent(mail.traceparent ?? undefined)), () => deliver(mail))
      .catch((error: unknown) => {
        // The lease ends by itself and the mail is sent again, with the same Message-ID.
        logger.warn({ err: error, notificationId: mail.id }, 'what became of a mail could not be written down')
      })
      .finally(() => {
        inHand.delete(work)
        alarm.wake()
      })
    inHand.add(work)
  }

  async function deliver(mail: ClaimedMail) {
    const failure = await attempt(mail)
    if (failure) await settleFailure(mail, failure)
    else await settleSent(mail)
  }

  /** What went wrong, if anything. */
  async function attempt(claimed: ClaimedMail) {
    try {
      await transport.send(composeMail(from, sourceOf(claimed)), givingUp.signal)
      return undefined
    } catch (error) {
      const failure = error as SmtpError
      // What SMTP says may hold the address, and its reason is kept without; anything else is a fault of ours.
      if (failure.code === undefined)
        logger.error({ err: error, notificationId: claimed.id }, 'a mail could not be made')
      return failure
    }
  }

  async function settleSent(mail: ClaimedMail) {
    reached()
    const now = new Date()
    await untilStored(async (tx) => {
      const sequence = await markSent(tx, mail, now)
      if (sequence === undefined) return
      const data = { ...subjectOfEvent(mail), messageId: messageIdOf(mail.causeId, mail.resends), sentAt: now }
      await produces.emit(tx, [{ type: 'NotificationSent', key: mail.id, sequence, data, causedBy: causeOf(mail) }])
    })
    report(mail, 'sent')
  }

  /** A mail that has gone out must be noted before its lease ends, or it goes out again: a database that is away is waited for. */
  async function untilStored(work: (tx: Transaction<Tables>) => Promise<void>): Promise<void> {
    const deadline = performance.now() + policy.leaseMs - policy.attemptMs
    for (;;) {
      try {
        return await database.transaction(work)
      } catch (error) {
        if (!isUnavailable(error) || performance.now() > deadline) throw error
        await pause(250)
      }
    }
  }

  async function settleFailure(mail: ClaimedMail, error: SmtpError) {
    const trouble = troubleOf(error)
    const reason = reasonOf(error)
    if (trouble === 'unreachable') lost(reason)
    else reached()
    const decision = decideRetry(trouble, mail.problems, policy, Math.random())
    if (decision.do === 'retry') {
      report(mail, trouble, reason)
      return putBack(database.query, mail, { ...decision, reason })
    }
    await database.transaction(async (tx) => {
      const sequence = await markFailed(tx, mail, { problems: decision.problems, reason })
      if (sequence === undefined) return
      const data = { ...subjectOfEvent(mail), reason, failedAt: new Date() }
      await produces.emit(tx, [{ type: 'NotificationFailed', key: mail.id, sequence, data, causedBy: causeOf(mail) }])
    })
    report(mail, 'failed', reason)
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
      stopListening = database.on(mailsDue, alarm.wake)
      running = run()
    },
    async stop() {
      stopListening()
      stopping.abort()
      const timer = setTimeout(() => givingUp.abort(), policy.finishMs)
      await running
      await Promise.all(inHand)
      clearTimeout(timer)
    },
    check: {
      name: 'smtp',
      optional: true,
      async check() {
        const { times, until, reason } = unreachable
        if (until > performance.now()) throw unreachableBecause(reason)
        if (times === 0 && performance.now() - reachedAt < policy.reachedForMs) return
        await transport.verify().catch((error: Error) => {
          throw unreachableBecause(error.message, error)
        })
        reached()
        alarm.wake()
      },
    },
  }
}

const unreachableBecause = (reason: string, cause?: Error) =>
  new Error(`the SMTP server cannot be reached (${reason}); mails wait`, { cause })

const subjectOfEvent = ({ id, userId, kind, causeId }: ClaimedMail) => ({ notificationId: id, userId, kind, causeId })

const causeOf = ({ causeId, mailing, traceparent }: ClaimedMail) => ({
  id: mailing?.id ?? causeId,
  ...(traceparent && { traceparent }),
})

function sourceOf({ kind, causeId, resends, facts, createdAt, mailing, email, name }: ClaimedMail): MailSource {
  const common = { causeId, resends, createdAt, recipient: { email, name } }
  if (kind !== 'mailing') return { ...common, kind, facts }
  if (!mailing) throw new Error('the mailing of a notification is missing')
  return { ...common, kind, subject: mailing.subject, text: mailing.text }
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
