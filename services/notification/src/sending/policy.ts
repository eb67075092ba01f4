import type { Lane } from '../tables.ts'

/**
 * What a failed attempt says: `unreachable` is about the SMTP server (no mail gets through, whichever it is),
 * `deferred` a refusal for now, `refused` a refusal of this mail for good.
 */
export type Trouble = 'unreachable' | 'deferred' | 'refused'

/** Times in ms. */
export interface Backoff {
  /** Pause after the first failure; doubled after each further one. */
  baseMs: number
  maxMs: number
}

export interface LanePolicy {
  /** Mails in hand at once, and connections to the SMTP server, which no other lane uses. */
  concurrency: number
  /** Mails begun per second at the most; without it, as many as the server takes. */
  perSecond?: number
}

export interface SendingPolicy {
  /** Of each process. */
  lanes: Record<Lane, LanePolicy>
  /** After this time an attempt is given up; it counts as one that did not reach the server. */
  attemptMs: number
  /** How long a claim keeps a mail from other instances; longer than an attempt may take. */
  leaseMs: number
  /** How often the table is looked at when nothing wakes the sender. */
  pollMs: number
  /** How long a stopping service waits for the mails in hand; they are tried again by the next one. */
  finishMs: number
  /** For so long after a mail went through, readiness takes the server to be there. */
  reachedForMs: number
  /** Pauses of the whole sender while the server cannot be reached, for as long as it takes. */
  unreachable: Backoff
  /** Pauses of a mail, and how often the server may turn it away before it has failed. */
  deferred: Backoff & { attempts: number }
  refused: Backoff & { attempts: number }
}

export const sendingPolicy: SendingPolicy = {
  // 50,000 mails of a mailing take 8 minutes at that rate, and leave the SMTP server its breath for the others.
  lanes: { urgent: { concurrency: 4 }, bulk: { concurrency: 2, perSecond: 100 } },
  attemptMs: 12_000,
  leaseMs: 20_000,
  pollMs: 1_000,
  finishMs: 6_000,
  reachedForMs: 10_000,
  unreachable: { baseMs: 500, maxMs: 15_000 },
  deferred: { baseMs: 2_000, maxMs: 900_000, attempts: 60 }, // about half a day, as greylisting and full mailboxes take
  refused: { baseMs: 2_000, maxMs: 60_000, attempts: 3 }, // some servers say 550 while they restart
}

/** An error as nodemailer gives it. */
export interface SmtpError {
  code?: string
  /** The server's reply code. */
  responseCode?: number
  /** The SMTP command that was answered so. */
  command?: string
  response?: string
}

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
])

/** Which trouble an error of an attempt is. */
export function troubleOf({ code = '', responseCode, command }: SmtpError): Trouble {
  if (unreachableCodes.has(code) || responseCode === 421) return 'unreachable'
  if (responseCode === undefined) return code === 'EENVELOPE' ? 'refused' : 'deferred'
  const isForGood = responseCode >= 500 && responseCode !== 503 // 503: a muddled session, not this mail
  // A refused sender is a setting of ours that can be put right; the recipient has nothing to do with it.
  return isForGood && command !== 'MAIL FROM' ? 'refused' : 'deferred'
}

/** An error in words that hold no address: servers repeat the recipient in what they answer. */
export function reasonOf({ code, responseCode, command, response }: SmtpError): string {
  if (responseCode === undefined) return code ?? 'unexpected error'
  const enhanced = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1]
  return ['SMTP', responseCode, enhanced, command && `at ${command}`].filter(Boolean).join(' ')
}

export type Decision = { do: 'retry'; inMs: number; problems: number } | { do: 'fail'; problems: number }

/**
 * What becomes of a mail that the server has turned away `problems` times before. An unreachable server is not the
 * mail's problem: it is due again at once, and the sender pauses instead.
 * @param random 0 to 1, spreads the retries of mails that failed together.
 */
export function decideRetry(trouble: Trouble, problems: number, policy: SendingPolicy, random: number): Decision {
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
