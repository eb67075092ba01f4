import type { Lane } from '../tables.ts'

/**
 * What a failed attempt says: `unreachable` is about the SMTP server (no mail gets through, whichever it is),
 * `deferred` a refusal for now, `refused` a refusal of this mail for good; `unknown`: the server may have the mail.
 */
export type Trouble = 'unreachable' | 'deferred' | 'refused' | 'unknown'

/**
 * How far an attempt came: to a `session` (connected, greeted, logged in), to the mail's `envelope`, or to its `data`,
 * of which a first byte was sent.
 */
export type Stage = 'session' | 'envelope' | 'data'

/** Times in ms. */
export interface Backoff {
  /** Pause after the first failure; doubled after each further one. */
  baseMs: number
  maxMs: number
}

export interface LanePolicy {
  /** Mails in hand at once, besides those that the server lets wait: each with a connection, which no other lane uses. */
  concurrency: number
  /** Mails begun per second at the most; without it, as many as the server takes. */
  perSecond?: number
}

export interface SendingPolicy {
  /** Of each process. */
  lanes: Record<Lane, LanePolicy>
  /** An attempt ends after this time if the server has not taken the mail's data; nothing was sent. */
  handoverMs: number
  /** How long the server may take to answer a mail's data. After that nobody knows whether it has the mail. */
  answerMs: number
  /**
   * A mail that waits longer for the server is put aside: it keeps its connection, and its hand takes another mail. So
   * a few recipients whose mails are answered after ten minutes, or never, delay nobody else.
   */
  asideMs: number
  /** Mails aside at the most. Both lanes stay below the 50 connections that a server takes from one client as a rule. */
  asideMax: number
  /** How long a claim keeps a mail from other instances; it is renewed while the mail is in hand. */
  leaseMs: number
  /**
   * A mail is checked once more if the server asks for its data this long after the claim: it may be cancelled by then,
   * or another instance's. An earlier one saves that query, and goes out even if somebody opts out in that time.
   */
  lookAgainMs: number
  /** How often the table is looked at when nothing wakes the sender. */
  pollMs: number
  /** A look for due mails begins where the look this long before it began: see due-floor.ts. */
  floorLagMs: number
  /** How often a look begins at the first. */
  lookAtAllMs: number
  /** How long a stopping service waits for the mails in hand. */
  finishMs: number
  /** How long after a sent mail the server counts as reachable for readiness. */
  reachedForMs: number
  /** Readiness reports a server that answers no mail, and a lane without a free hand, after this time. */
  silentMs: number
  /** This number of mails in a row without an answer is reported too. */
  unansweredMails: number
  /**
   * How long it is reported after the last of them: no pause of a mail is longer, so after that no mail is left that
   * would show whether the server works again.
   */
  unansweredForMs: number
  /** Pauses before it is tried again to write down what has become of a mail. */
  noting: Backoff
  /** Pauses of the whole sender while the server cannot be reached, for as long as it takes. */
  unreachable: Backoff
  /** Pauses of a mail, and how often the server may turn it away before it has failed. */
  deferred: Backoff & { attempts: number }
  refused: Backoff & { attempts: number }
  /** How often a mail is sent that the server may have, with the same Message-ID, before it stays as it is. */
  unknown: Backoff & { attempts: number }
}

export const sendingPolicy: SendingPolicy = {
  // 50,000 mails of a mailing take 8 minutes at that rate, and leave the SMTP server its breath for the others.
  lanes: { urgent: { concurrency: 8 }, bulk: { concurrency: 2, perSecond: 100 } },
  handoverMs: 60_000,
  answerMs: 600_000, // RFC 5321, section 4.5.3.2.6
  asideMs: 3_000,
  asideMax: 16,
  leaseMs: 20_000,
  lookAgainMs: 1_000,
  pollMs: 1_000,
  floorLagMs: 10_000,
  lookAtAllMs: 30_000,
  finishMs: 6_000,
  reachedForMs: 10_000,
  silentMs: 30_000,
  unansweredMails: 2,
  unansweredForMs: 900_000,
  noting: { baseMs: 250, maxMs: 2_000 },
  unreachable: { baseMs: 500, maxMs: 15_000 },
  deferred: { baseMs: 2_000, maxMs: 900_000, attempts: 60 }, // about half a day, as greylisting and full mailboxes take
  refused: { baseMs: 2_000, maxMs: 60_000, attempts: 3 }, // some servers say 550 while they restart
  unknown: { baseMs: 15_000, maxMs: 3_600_000, attempts: 5 }, // 4 minutes, and the server's own time
}

/** An error as nodemailer gives it. */
export interface SmtpError {
  code?: string
  /** The server's reply code. */
  responseCode?: number
  /** The SMTP command that was answered so. */
  command?: string
  response?: string
  stage?: Stage
  /** Of what is wrong by our own rules: words that hold no address. */
  detail?: string
}

/** How a reason begins when the server may have the mail. */
const outcomeUnknown = 'outcome unknown'

/** What is said of a mail whose process ended while it was in hand. */
export const leftReason = `${outcomeUnknown}: the service ended before it was known`

const unreachableCodes = new Set([
  'ECONNECTION',
  'ETIMEDOUT',
  'ESOCKET',
  'EDNS',
  'ETLS',
  'EPROTOCOL',
  'EPROXY',
  'EABORT',
  // Our credentials, not the recipient: mails wait until somebody sets them right.
  'EAUTH',
  'ENOAUTH',
  'EOAUTH2',
  // What every mail needs by our settings, and the server does not offer.
  'EUNSUPPORTED',
])

/** Which trouble an error of an attempt is. */
export function troubleOf(error: SmtpError): Trouble {
  const { code = '', responseCode, command, stage } = error
  // Only an answer to the data proves that the server does not have the mail, however the connection ended.
  if (stage === 'data') return isRefusalOfData(error) ? refusalOf(responseCode as number) : 'unknown'
  if (code === 'EUNSUPPORTED' && stage !== 'session') return 'refused'
  // The server was there, and may be for other mails: a mail at which it always breaks off must end some day. If the
  // server is gone for all, the next connection shows it.
  if (stage === 'envelope' && (unreachableCodes.has(code) || responseCode === 421)) return 'deferred'
  if (unreachableCodes.has(code) || responseCode === 421) return 'unreachable'
  if (responseCode === undefined) return code === 'EENVELOPE' ? 'refused' : 'deferred'
  // A refused sender is a setting of ours that can be put right; the recipient has nothing to do with it.
  return command === 'MAIL FROM' ? 'deferred' : refusalOf(responseCode)
}

const isRefusalOfData = ({ code, responseCode = 0 }: SmtpError) =>
  code === 'EMESSAGE' && responseCode >= 400 && responseCode < 600

/** 503 is about a muddled session, not about this mail. */
const refusalOf = (responseCode: number) => (responseCode >= 500 && responseCode !== 503 ? 'refused' : 'deferred')

/** Whether the server has said something about the mail, or we have; else it left it without an answer. */
export const isAnswer = (error: SmtpError) =>
  error.detail !== undefined || (error.stage === 'data' ? isRefusalOfData(error) : error.responseCode !== undefined)

/** An error in words that hold no address: servers repeat the recipient in what they answer. */
export function reasonOf(error: SmtpError): string {
  const { code = 'unexpected error', responseCode, command, response, stage, detail } = error
  if (detail !== undefined) return detail
  if (stage === 'data' && !isRefusalOfData(error)) return `${outcomeUnknown}: no answer after the mail's data (${code})`
  if (stage === 'envelope' && responseCode === undefined) return `no answer before the mail's data (${code})`
  if (responseCode === undefined) return code
  const enhanced = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1]
  return ['SMTP', responseCode, enhanced, command && `at ${command}`].filter(Boolean).join(' ')
}

export type RetryDecision = { do: 'retry'; inMs: number; problems: number } | { do: 'fail'; problems: number }

/**
 * What becomes of a mail that had this trouble `problems` times before; refusals, for good or not, count together. An unreachable server is not the
 * mail's problem: it is due again at once, and the sender pauses instead.
 * @param random 0 to 1, spreads the retries of mails that failed together.
 */
export function decideRetry(trouble: Trouble, problems: number, policy: SendingPolicy, random: number): RetryDecision {
  if (trouble === 'unreachable') return { do: 'retry', inMs: 0, problems }
  const { attempts, ...backoff } = policy[trouble]
  const now = problems + 1
  return now >= attempts
    ? { do: 'fail', problems: now }
    : { do: 'retry', inMs: pauseAfter(now, backoff, random), problems: now }
}

/** The pause after the n-th failure in a row, in ms: doubled each time up to the limit, and up to a fifth less by chance. */
export function pauseAfter(failures: number, { baseMs, maxMs }: Backoff, random: number): number {
  return Math.min(maxMs, baseMs * 2 ** Math.min(failures - 1, 30)) * (1 - random / 5)
}

/** When the next mail may begin after `begun` of them have begun; time that was not used is not saved up. */
export function paced({ perSecond }: LanePolicy, nextAt: number, begun: number, now: number): number {
  return perSecond === undefined ? now : Math.max(nextAt, now) + (begun * 1_000) / perSecond
}
