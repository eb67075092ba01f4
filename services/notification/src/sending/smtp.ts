import { createTransport } from 'nodemailer'
import type { Mail } from '../mails/mail.ts'

/** The SMTP server, as the sender needs it. */
export interface MailTransport {
  /**
   * Hands a mail over; resolves once the server has accepted it. Rejects with an `SmtpError`, also after the time limit
   * and when `signal` is aborted.
   */
  send(mail: Mail, signal: AbortSignal): Promise<void>
  /** Connects and logs in, without a mail. Rejects when that does not work. */
  verify(): Promise<void>
  /** Closes the idle connections; a mail in hand is finished first. */
  close(): void
}

export interface TransportOptions {
  /** `smtp://user:password@host:port`; nodemailer's options can stand in its query. */
  url: string
  /** Connections at the most. */
  connections: number
  /** Limit of one attempt in ms. */
  attemptMs: number
}

/** Kept open for this long after a mail, in ms. */
const idleMs = 10_000

/** Connects when first used, so an absent server is no error here. */
export function createMailTransport({ url, connections, attemptMs }: TransportOptions): MailTransport {
  const transport = createTransport({
    url,
    pool: true,
    maxConnections: connections,
    maxMessages: Number.POSITIVE_INFINITY,
    // Whether a mail is sent again when its connection breaks is decided here, in the open, and not inside the pool.
    maxRequeues: 0,
    idleTimeout: idleMs,
    connectionTimeout: 5_000,
    greetingTimeout: 5_000,
    socketTimeout: attemptMs, // no less: a server that falls silent has the whole attempt to answer
    dnsTimeout: 5_000,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  return {
    async send(mail, signal) {
      await transport.sendMail({ ...mail, signal: AbortSignal.any([signal, AbortSignal.timeout(attemptMs)]) })
    },
    async verify() {
      await transport.verify()
    },
    close: () => transport.close(),
  }
}
