import { Readable } from 'node:stream'
import { createTransport } from 'nodemailer'
import MailComposer from 'nodemailer/lib/mail-composer'
import SMTPConnection from 'nodemailer/lib/smtp-connection'
import type SMTPTransport from 'nodemailer/lib/smtp-transport'
import type { Mail } from '../mails/mail.ts'
import type { SmtpError, Stage } from './policy.ts'

/** The SMTP server, as the sender needs it. */
export interface MailTransport {
  /**
   * Hands a mail over; resolves once the server has accepted it. Rejects with an `SmtpError` that tells how far it came,
   * also after a time limit and when `signal` is aborted.
   */
  send(mail: Mail, signal: AbortSignal, steps?: Steps): Promise<void>
  /** Connects and logs in, without a mail. Rejects when that does not work. */
  verify(): Promise<void>
  /** Closes all connections. */
  close(): void
}

/** What is told of a mail on its way. */
export interface Steps {
  /** There is a connection for it. */
  connected?(): void
  /** The server asks for its data, of which nothing is sent if this says no. */
  mayGo?(): Promise<boolean>
}

export interface TransportOptions {
  /** `smtp://user:password@host:port`; nodemailer's options can stand in its query. */
  url: string
  /** The sender's address: a server that cannot take it is of no use. */
  from: string
  /** Limit in ms from the beginning of an attempt until the server takes the mail's data. */
  handoverMs: number
  /** Limit in ms from then on until it has answered. */
  answerMs: number
}

/** A connection that is logged in, and what its server offers: keywords in upper case, each with its parameters. */
interface Session {
  connection: SMTPConnection
  offers: ReadonlyMap<string, string>
}

interface Composed {
  envelope: { from: string; to: string[] }
  bytes: Buffer
}

/** Kept open for this long after a mail, in ms. */
const idleMs = 10_000

/**
 * Connects when first used, so an absent server is no error here. Connections are kept for further mails here and not in
 * nodemailer's pool, which tells neither how far a mail came nor what the server offers, and sends on without what is missing.
 */
export function createMailTransport({ url, from, handoverMs, answerMs }: TransportOptions): MailTransport {
  const nodemailer = createTransport({
    url,
    // Limit for all steps before a mail; a server that delays strangers greets them after half a minute.
    connectionTimeout: handoverMs,
    greetingTimeout: handoverMs,
    socketTimeout: handoverMs + answerMs, // no less: the limits below decide
    dnsTimeout: 5_000,
    socketCloseTimeout: 1_000,
  } as SMTPTransport.Options)
  const { transporter } = nodemailer as unknown as { transporter: SmtpSettings }
  const sessions = createSessions(transporter, { from, handoverMs })
  let verifying: Promise<void> | undefined

  return {
    async send(mail, signal, { connected, mayGo = async () => true } = {}) {
      const composed = await compose(mail)
      for (;;) {
        const { session, isReused } = await sessions.take(signal)
        connected?.()
        try {
          await deliver(session, composed, { handoverMs, answerMs, signal, mayGo })
          return sessions.keep(session)
        } catch (thrown) {
          const error = thrown as SmtpError
          const isAnswer = error.code === 'EUNSUPPORTED' || (error.responseCode ?? 421) !== 421
          if (isAnswer && !session.connection.destroyed) sessions.resetAndKeep(session)
          else session.connection.close()
          // The server has closed an idle connection: not a byte of the mail was sent, so a new connection decides.
          const isOver = !isAnswer && error.code !== 'ETIMEDOUT' && error.code !== 'EABORT'
          if (!isReused || error.stage !== 'envelope' || !isOver) throw error
        }
      }
    },
    verify() {
      verifying ??= sessions
        .connect(new AbortController().signal)
        .then(({ connection }) => connection.quit())
        .finally(() => {
          verifying = undefined
        })
      return verifying
    },
    close() {
      sessions.close()
      nodemailer.close()
    },
  }
}

/** Connections that are logged in, of which those that no mail has are kept for the next one for a while. */
function createSessions(
  transporter: SmtpSettings,
  { from, handoverMs }: Pick<TransportOptions, 'from' | 'handoverMs'>,
) {
  const auth = transporter.getAuth({})
  const open = new Set<SMTPConnection>()
  const idle = new Map<Session, NodeJS.Timeout>()

  /** A connection that is there already, or else a new one. */
  async function take(signal: AbortSignal): Promise<{ session: Session; isReused: boolean }> {
    const [session] = [...idle.keys()].slice(-1)
    if (!session) return { session: await connect(signal), isReused: false }
    unkeep(session)
    return { session, isReused: true }
  }

  function keep(session: Session) {
    if (session.connection.destroyed) return
    const goodbye = setTimeout(() => {
      idle.delete(session)
      session.connection.quit()
    }, idleMs)
    idle.set(session, goodbye.unref())
  }

  /** It is to be used, or over. */
  function unkeep(session: Session) {
    clearTimeout(idle.get(session))
    idle.delete(session)
  }

  async function connect(signal: AbortSignal): Promise<Session> {
    const socket = await socketOf(transporter)
    const connection = new SMTPConnection({ ...transporter.options, ...socket })
    const session = { connection, offers: new Map<string, string>() }
    const { promise, resolve, reject } = Promise.withResolvers<Session>()
    open.add(connection)
    connection.on('error', reject) // also later, when nobody waits for it
    connection.once('end', () => {
      open.delete(connection)
      unkeep(session)
      reject(failureOf('ECONNECTION'))
    })
    connection.connect((error) => {
      if (error) return reject(error)
      session.offers = offersOf(connection.lastServerResponse)
      const lack = lackOfServer(session.offers, { auth, from })
      if (lack) return reject(failureOf('EUNSUPPORTED', lack))
      if (!auth) return resolve(session)
      connection.login(auth, (refusal) => (refusal ? reject(refusal) : resolve(session)))
    })
    return within(handoverMs, signal, promise).catch((error) => {
      connection.close()
      throw staged(error, 'session')
    })
  }

  /** The server has refused a mail and goes on: the connection is good for the next one. */
  function resetAndKeep(session: Session) {
    const tooLong = setTimeout(() => session.connection.close(), handoverMs).unref()
    session.connection.reset((error) => {
      clearTimeout(tooLong)
      if (error) session.connection.close()
      else keep(session)
    })
  }

  return {
    take,
    keep,
    resetAndKeep,
    connect,
    close() {
      for (const connection of open) connection.close()
    },
  }
}

/** Sends a mail over a connection; `mayGo` is asked when the server is about to have the data. */
function deliver(
  { connection, offers }: Session,
  { envelope, bytes }: Composed,
  {
    handoverMs,
    answerMs,
    signal,
    mayGo,
  }: Pick<TransportOptions, 'handoverMs' | 'answerMs'> & {
    signal: AbortSignal
    mayGo: () => Promise<boolean>
  },
): Promise<void> {
  const lack = lackOfMail(offers, envelope, bytes)
  if (lack) return Promise.reject(failureOf('EUNSUPPORTED', lack))
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let stage: Stage = 'envelope'
  let isOver = false
  const fail = (error: object) => reject(staged(error, stage))
  const timeUp = () => fail(failureOf('ETIMEDOUT'))
  let limit = setTimeout(timeUp, handoverMs)
  const stop = () => fail(failureOf('EABORT'))
  signal.addEventListener('abort', stop)
  if (signal.aborted) stop()
  // Read for the first time when the server has asked for the data.
  const message = new Readable({
    read() {
      void mayGo().then((may) => {
        if (isOver) return
        if (may) hand()
        else fail(failureOf('EABORT', 'it was not certain that the mail is still to be sent'))
      }, fail)
    },
  })
  /** From now on the server may have the mail, all of it being in the system's buffers at once. */
  const hand = () => {
    stage = 'data'
    clearTimeout(limit)
    limit = setTimeout(timeUp, answerMs)
    message.push(bytes)
    message.push(null)
  }
  connection.send({ ...envelope, size: bytes.length }, message, (error, info) => {
    const refusal = error ?? info?.rejectedErrors?.[0] // LMTP answers for each recipient, and calls it no error
    if (refusal) fail(refusal)
    else resolve()
  })
  return promise.finally(() => {
    isOver = true
    clearTimeout(limit)
    signal.removeEventListener('abort', stop)
  })
}

/** What nodemailer has made of the URL: the options, how to log in, and a way through a proxy. */
interface SmtpSettings {
  options: SMTPTransport.Options
  getAuth(auth: object): SMTPConnection.AuthenticationType | false
  getSocket(options: object, callback: (error: Error | null, socket?: object | false) => void): void
}

async function socketOf(settings: SmtpSettings): Promise<object> {
  const { promise, resolve, reject } = Promise.withResolvers<object>()
  settings.getSocket({ ...settings.options, connectStartedAt: Date.now() }, (error, socket) =>
    error ? reject(staged(error, 'session')) : resolve(socket || {}),
  )
  return promise
}

async function compose(mail: Mail): Promise<Composed> {
  const node = new MailComposer({ ...mail, disableFileAccess: true, disableUrlAccess: true }).compile()
  const { from, to } = node.getEnvelope()
  return { envelope: { from: from || '', to: [to].flat() as string[] }, bytes: await node.build() }
}

/** The extensions that the answer to EHLO names; none after HELO. */
function offersOf(answer: string | false): Map<string, string> {
  const lines = (answer || '').split(/\r?\n/).slice(1)
  return new Map(
    lines.map((line) => {
      const [, keyword = '', parameters = ''] = /^\d+[ -](\w[\w-]*)[ =]?(.*)$/.exec(line) ?? []
      return [keyword.toUpperCase(), parameters]
    }),
  )
}

const isAscii = (text: string) => !/[^\p{ASCII}]/u.test(text)

/** What makes a server useless for every mail, as settings are; undefined when nothing does. */
function lackOfServer(offers: Session['offers'], { auth, from }: { auth: unknown; from: string }): string | undefined {
  if (auth && !offers.has('AUTH')) return 'the SMTP server offers no AUTH, and SMTP_URL has credentials'
  const [, local = ''] = /([^\s<]*)@[^@]*$/.exec(from) ?? []
  if (!isAscii(local) && !offers.has('SMTPUTF8'))
    return 'MAIL_FROM needs SMTPUTF8, which the SMTP server does not offer'
  return undefined
}

/** Why a server cannot take one mail; undefined when it can. Domains of any script are in ASCII by now, headers and texts too. */
function lackOfMail(offers: Session['offers'], { from, to }: Composed['envelope'], bytes: Buffer): string | undefined {
  if (!isAscii([from, ...to].join('')) && !offers.has('SMTPUTF8'))
    return 'the address needs SMTPUTF8, which the SMTP server does not offer'
  if (bytes.some((byte) => byte > 0x7f) && !offers.has('8BITMIME') && !offers.has('SMTPUTF8'))
    return 'the mail needs 8BITMIME, which the SMTP server does not offer'
  const limit = Number(offers.get('SIZE')) || Number.POSITIVE_INFINITY
  if (bytes.length > limit) return `the mail has ${bytes.length} bytes, and the SMTP server takes ${limit}`
  return undefined
}

/** An error of our own; `detail` says in words, without an address, what is wrong. */
const failureOf = (code: string, detail?: string): SmtpError & Error =>
  Object.assign(new Error(detail ?? code), { code, ...(detail && { detail }) })

const staged = <E extends object>(error: E, stage: Stage) => Object.assign(error, { stage })

/** The promise's outcome, or a failure after `ms` or when `signal` is aborted. */
async function within<T>(ms: number, signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const over = Promise.withResolvers<never>()
  const timer = setTimeout(() => over.reject(failureOf('ETIMEDOUT')), ms)
  const stop = () => over.reject(failureOf('EABORT'))
  signal.addEventListener('abort', stop)
  if (signal.aborted) stop()
  try {
    return await Promise.race([promise, over.promise])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
  }
}
