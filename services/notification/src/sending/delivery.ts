import { type Database, gather } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import { currentTrace, formatTraceparent, type Logger, type TraceContext } from '@shopstream/observability'
import { composeMail, type MailSource, messageIdOf } from '../mails/mail.ts'
import { produces } from '../produces.ts'
import type { Kind, Tables } from '../tables.ts'
import {
  decideRetry,
  isAnswer,
  leftReason,
  pauseAfter,
  type RetryDecision,
  reasonOf,
  type SendingPolicy,
  type SmtpError,
  type Trouble,
  troubleOf,
} from './policy.ts'
import { type ClaimedMail, type Failure, isClaimed, markFailed, markSent, putBack } from './queries.ts'
import type { MailTransport } from './smtp.ts'
import type { Answers } from './smtp-replies.ts'

export type Outcome = 'sent' | 'failed' | 'deferred' | 'refused' | 'unreachable' | 'unknown'

/** A mail in hand. */
export interface Work {
  mail: ClaimedMail
  /** When it was about to be claimed, by performance.now(). */
  begunAt: number
  /** When it had a connection, by performance.now(); undefined before. */
  connectedAt?: number
  /** The attempt is over, and what came of it is being written down. */
  isOver?: boolean
  /** It becomes due at a time of its own; renewing its lease must not delay that. */
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
/** What is known of the SMTP server. */
export interface Reached {
  /** Failures in a row, until when nothing is tried after them, by performance.now(), and why. */
  unreachable: { times: number; until: number; reason: string }
  /** By performance.now(). */
  reachedAt: number
}

export interface DeliveryOptions {
  database: Database<Tables>
  transport: MailTransport
  answers: Answers
  from: string
  optOutLinkOf(userId: string): string | undefined
  policy: SendingPolicy
  logger: Logger
  count: (kind: Kind, outcome: Outcome) => void
  /** Aborted when a stopping service no longer waits for the server. */
  givingUp: AbortSignal
  /** The attempt of a mail is over; what came of it is still to be written down. */
  freed(): void
  /** A mail is due again, perhaps at once. */
  givenBack(): void
  /** The renewal of leases that is under way. */
  renewal(): Promise<void> | undefined
}

/** What deliveries share. */
export interface Deliveries extends DeliveryOptions, Reached {
  noteTogether(mail: SentMail): Promise<undefined>
}

export function deliveriesOf(options: DeliveryOptions): Deliveries {
  /** What has gone out meanwhile, in one transaction. */
  const noteTogether = gather(notedTogether, async (mails: SentMail[]) => {
    await noteSent(options.database, mails)
    return mails.map(() => undefined)
  })
  return {
    ...options,
    noteTogether,
    unreachable: { times: 0, until: 0, reason: '' },
    reachedAt: Number.NEGATIVE_INFINITY,
  }
}

/** Sends a mail outside of any transaction, and writes down what became of it. Throws where that cannot be written. */
export async function deliver(deliveries: Deliveries, work: Work) {
  if (work.mail.wasLeft && (await settleLeft(deliveries, work))) return undefined
  const failure = await attempt(deliveries, work)
  work.isOver = true
  deliveries.freed()
  if (failure) await settleFailure(deliveries, work, failure)
  else await settleSent(deliveries, work.mail)
  return failure
}

/** What went wrong, if anything. */
async function attempt(deliveries: Deliveries, work: Work) {
  const { transport, from, optOutLinkOf, givingUp, answers, logger } = deliveries
  const { mail } = work
  let awaited: ReturnType<Answers['begin']> | undefined
  try {
    await transport.send(composeMail(from, sourceOf(mail, optOutLinkOf)), givingUp, {
      connected() {
        work.connectedAt ??= performance.now()
        awaited ??= answers.begin()
      },
      mayGo: () => mayGo(deliveries, work),
    })
    awaited?.heard()
    return undefined
  } catch (error) {
    const failure = error as SmtpError
    awaited?.heard(isAnswer(failure) ? undefined : reasonOf(failure))
    // An SMTP answer may hold the address, so its reason is kept without it; any other error is a fault of ours.
    if (failure.code === undefined) logger.error({ err: error, notificationId: mail.id }, 'a mail could not be made')
    return failure
  }
}

/** Looks again: a server may take a minute to greet, or to take a recipient, who may have opted out or been erased. */
async function mayGo({ database, policy, logger }: Deliveries, { mail, begunAt }: Work): Promise<boolean> {
  if (performance.now() - begunAt < policy.lookAgainMs) return true
  return isClaimed(database.query, mail).catch((error) => {
    logger.debug({ err: error }, 'whether a mail is still to be sent cannot be seen now')
    return false
  })
}

async function settleSent(deliveries: Deliveries, mail: ClaimedMail) {
  const { database, noteTogether } = deliveries
  reached(deliveries)
  const sent = { ...mail, sentAt: new Date(), trace: currentTrace() }
  await untilNoted(deliveries, mail, async (isFirst) => {
    await (isFirst ? noteTogether(sent) : noteSent(database, [sent]))
  })
  report(deliveries, mail, 'sent')
}

const noteSent = (database: Database<Tables>, mails: readonly SentMail[]) =>
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
 * Waits before a mail that a dead process may have sent: a process killed each minute would otherwise send it each
 * minute. The lease was part of the pause; false if it was all of it, and the mail may go out.
 */
async function settleLeft(deliveries: Deliveries, work: Work): Promise<boolean> {
  const { policy } = deliveries
  const { problems, unknowns } = work.mail
  const decision = decideRetry('unknown', unknowns - 1, policy, Math.random())
  if (decision.do === 'retry') decision.inMs -= policy.leaseMs
  if (decision.do === 'retry' && decision.inMs <= 0) return false
  work.isOver = true
  await settle(deliveries, work, decision, 'unknown', { problems, unknowns, reason: leftReason })
  return true
}

async function settleFailure(deliveries: Deliveries, work: Work, error: SmtpError) {
  const { policy } = deliveries
  const { mail } = work
  const { problems, unknowns } = mail
  if (error.code === 'EABORT' && error.stage !== 'data') {
    const reason = error.detail ?? 'the service was stopped before the mail was sent'
    return giveBack(deliveries, work, { inMs: 0, problems, unknowns, reason }) // nothing is written of one that was cancelled
  }
  const trouble = troubleOf(error)
  const reason = reasonOf(error)
  if (trouble === 'unreachable') lost(deliveries, reason)
  else reached(deliveries)
  const counter = trouble === 'unknown' ? 'unknowns' : 'problems'
  const decision = decideRetry(trouble, mail[counter], policy, Math.random())
  await settle(deliveries, work, decision, trouble, { problems, unknowns, reason, [counter]: decision.problems })
}

async function settle(deliveries: Deliveries, work: Work, decision: RetryDecision, trouble: Trouble, failure: Failure) {
  if (decision.do === 'retry') await giveBack(deliveries, work, { ...failure, inMs: decision.inMs })
  else await fail(deliveries, work.mail, failure)
  report(deliveries, work.mail, decision.do === 'retry' ? trouble : 'failed', failure.reason)
}

async function giveBack(deliveries: Deliveries, work: Work, failure: Failure & { inMs: number }) {
  const { database, givenBack, renewal } = deliveries
  const { mail } = work
  work.isGivenBack = true
  givenBack()
  await renewal() // a renewal under way would end after this write, and undo the pause
  await untilNoted(deliveries, mail, () => putBack(database.query, mail, failure))
}

const fail = (deliveries: Deliveries, mail: ClaimedMail, failure: Failure) =>
  untilNoted(deliveries, mail, () =>
    deliveries.database.transaction(async (tx) => {
      const sequence = await markFailed(tx, mail, failure)
      if (sequence === undefined) return
      const data = { ...subjectOfEvent(mail), reason: failure.reason, failedAt: new Date() }
      await produces.emit(tx, [{ type: 'NotificationFailed', key: mail.id, sequence, data, causedBy: causeOf(mail) }])
    }),
  )

/** Repeats writing the outcome down while the process lives: a mail that is not marked as sent would go out again. */
async function untilNoted(
  { givingUp, logger, policy }: Deliveries,
  mail: ClaimedMail,
  work: (isFirst: boolean) => Promise<void>,
): Promise<void> {
  for (let failures = 1; ; failures++) {
    const isLast = givingUp.aborted
    try {
      return await work(failures === 1)
    } catch (error) {
      if (isLast) throw error
      const details = { err: error, notificationId: mail.id }
      if (failures === 1) logger.warn(details, 'what became of a mail cannot be written down now; tried again')
      await pause(pauseAfter(failures, policy.noting, Math.random()), givingUp)
    }
  }
}

function lost(deliveries: Deliveries, reason: string) {
  const { unreachable, policy, logger } = deliveries
  if (unreachable.until > performance.now()) return // mails that were in hand together fail together, and count once
  const times = unreachable.times + 1
  if (times === 1) logger.warn({ reason }, 'the SMTP server cannot be reached; mails wait')
  deliveries.unreachable = {
    times,
    reason,
    until: performance.now() + pauseAfter(times, policy.unreachable, Math.random()),
  }
}

export function reached(deliveries: Deliveries) {
  if (deliveries.unreachable.times > 0) deliveries.logger.info('the SMTP server can be reached again')
  deliveries.unreachable = { times: 0, until: 0, reason: '' }
  deliveries.reachedAt = performance.now()
}

function report({ count, logger }: Deliveries, mail: ClaimedMail, outcome: Outcome, reason?: string) {
  count(mail.kind, outcome)
  const { id: notificationId, kind, attempts } = mail
  logger.debug({ notificationId, kind, attempts, outcome, reason }, 'a mail was tried')
}

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

function sourceOf(mail: ClaimedMail, optOutLinkOf: DeliveryOptions['optOutLinkOf']): MailSource {
  const { kind, userId, causeId, resends, facts, createdAt, mailing, email } = mail
  const common = { causeId, resends, createdAt, recipient: { email } }
  if (kind !== 'mailing') return { ...common, kind, facts }
  if (!mailing) throw new Error('the mailing of a notification is missing')
  return { ...common, kind, subject: mailing.subject, text: mailing.text, optOutLink: optOutLinkOf(userId) }
}
