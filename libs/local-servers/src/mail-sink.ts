import { randomUUID } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type AddressObject, type ParsedMail, simpleParser } from 'mailparser'
import { SMTPServer } from 'smtp-server'
import { inboxPage } from './mail-page.ts'

export interface MailAddress {
  address: string
  name: string
}

/** A received mail, in the shape of MailDev 2's `GET /email`. */
export interface Mail {
  id: string
  subject: string
  from: MailAddress[]
  to: MailAddress[]
  text: string
  html: string
  /** Names in lower case, values decoded. */
  headers: Record<string, string>
  /** When it was accepted, ISO 8601. */
  time: string
  /** How its sender was left without an answer in time. A dropped one may count as not arrived. */
  unanswered?: MailTrouble['how']
}

/** What goes wrong after the final dot: the answer comes this much later, or the connection is closed without one. */
export type MailTrouble = { how: 'late'; lateMs: number } | { how: 'dropped' }

export interface MailSinkOptions {
  /** Default: a free one, as for `uiPort`. */
  smtpPort?: number
  uiPort?: number
  /** Default 127.0.0.1. */
  host?: string
  /** Keeps the mails in this file (JSON lines), so that they survive a restart. */
  store?: string
  /** Older mails are dropped; default 1000. */
  keep?: number
  /** Asked for each mail, once it is stored. */
  trouble?: () => MailTrouble | undefined
}

export interface MailSink {
  readonly smtpPort: number
  readonly uiPort: number
  readonly smtpUrl: string
  readonly uiUrl: string
  /** Newest last. */
  mails(): Mail[]
  /** Ends both servers and the connections to them. */
  close(): Promise<void>
}

const maxMailBytes = 10 * 1024 * 1024

/**
 * Starts a real SMTP server that accepts and keeps every mail (login allowed, not required; 10 MiB at most), with an
 * inbox page at `/`, `GET /email` and `DELETE /email/all`. A mail is stored before SMTP accepts it.
 * Throws when a port is taken.
 */
export async function startMailSink(options: MailSinkOptions = {}): Promise<MailSink> {
  const { host = '127.0.0.1', store, keep = 1_000, trouble = () => undefined } = options
  const mails = store ? load(store, keep) : []
  let appended = mails.length

  const accept = (mail: Mail) => {
    if (store) appendFileSync(store, `${JSON.stringify(mail)}\n`, { mode: 0o600 })
    appended += 1
    mails.push(mail)
    if (mails.length > keep) mails.splice(0, mails.length - keep)
    if (store && appended > 2 * keep) rewrite()
  }
  const rewrite = () => {
    if (store) save(store, mails)
    appended = mails.length
  }
  const clear = () => {
    mails.length = 0
    rewrite()
  }

  const closing = new AbortController()
  const smtp = smtpServer(accept, trouble, closing.signal)
  const smtpPort = await listen(smtp.server, options.smtpPort ?? 0, host)
  const http = createServer((request, response) => answer(request, response, { mails, clear }))
  const uiPort = await listen(http, options.uiPort ?? 0, host).catch(async (error) => {
    await new Promise<void>((resolve) => smtp.close(resolve))
    throw error
  })
  return {
    smtpPort,
    uiPort,
    smtpUrl: `smtp://127.0.0.1:${smtpPort}`,
    uiUrl: `http://127.0.0.1:${uiPort}`,
    mails: () => [...mails],
    async close() {
      closing.abort()
      http.closeAllConnections()
      await Promise.all([
        new Promise<void>((resolve) => http.close(() => resolve())),
        new Promise<void>((resolve) => smtp.close(() => resolve())),
      ])
    },
  }
}

function smtpServer(
  accept: (mail: Mail) => void,
  trouble: () => MailTrouble | undefined,
  closing: AbortSignal,
): SMTPServer {
  const sockets = new Map<number | undefined, Socket>() // by the client's port: a session does not have its socket
  const server = new SMTPServer({
    authOptional: true,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    disabledCommands: ['STARTTLS'], // its certificate would be self-signed, which clients refuse
    size: maxMailBytes,
    closeTimeout: 500,
    onAuth: (auth, _session, callback) => callback(null, { user: auth.username ?? 'anyone' }),
    onData(stream, session, callback) {
      simpleParser(stream, { skipImageLinks: true })
        .then((parsed) => {
          if (stream.sizeExceeded) throw Object.assign(new Error('the mail is too large'), { responseCode: 552 })
          const recipients = session.envelope.rcptTo.map(({ address }) => address)
          const now = trouble()
          accept({ ...mailOf(parsed, recipients), ...(now && { unanswered: now.how }) })
          if (now?.how === 'dropped') sockets.get(session.remotePort)?.destroy()
          if (now?.how === 'late') return delay(now.lateMs, undefined, { signal: closing })
        })
        .then(() => callback(), callback)
    },
  })
  server.server.on('connection', (socket: Socket) => {
    const { remotePort } = socket
    sockets.set(remotePort, socket)
    socket.once('close', () => sockets.delete(remotePort))
  })
  server.on('error', () => {}) // a client that hangs up in the middle; it repeats the mail, and nothing was accepted
  return server
}

function mailOf(parsed: ParsedMail, recipients: string[]): Mail {
  const to = addresses(parsed.to)
  return {
    id: randomUUID(),
    subject: parsed.subject ?? '',
    from: addresses(parsed.from),
    to: to.length > 0 ? to : recipients.map((address) => ({ address, name: '' })),
    text: parsed.text ?? '',
    html: parsed.html || '',
    headers: headersOf(parsed),
    time: new Date().toISOString(),
  }
}

function addresses(field: AddressObject | AddressObject[] | undefined): MailAddress[] {
  return [field ?? []].flat().flatMap(({ value }) => value.map(({ address = '', name }) => ({ address, name })))
}

/** Decoded text where the parser has it, else the header's line, unfolded. */
function headersOf(parsed: ParsedMail): Record<string, string> {
  return Object.fromEntries(
    parsed.headerLines.map(({ key, line }) => {
      const value = parsed.headers.get(key)
      const raw = line
        .slice(line.indexOf(':') + 1)
        .replace(/\r?\n\s+/g, ' ')
        .trim()
      if (typeof value === 'string') return [key, value]
      return [key, value && typeof value === 'object' && 'text' in value ? String(value.text) : raw]
    }),
  )
}

interface Inbox {
  mails: Mail[]
  clear: () => void
}

interface Answer {
  status?: number
  type?: string
  body: string
  policy?: string
  tag?: string
}

function answer(request: IncomingMessage, response: ServerResponse, inbox: Inbox): void {
  const { status = 200, type = 'application/json', body, policy = "default-src 'none'", tag } = find(request, inbox)
  const known = tag !== undefined && request.headers['if-none-match'] === tag
  response.writeHead(known ? 304 : status, {
    'content-type': `${type}; charset=utf-8`,
    'content-security-policy': policy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-cache',
    ...(tag === undefined ? {} : { etag: tag }),
  })
  response.end(known ? undefined : body)
}

function find({ method, url = '/' }: IncomingMessage, { mails, clear }: Inbox): Answer {
  const path = new URL(url, 'http://inbox').pathname
  const [, id = '', html] = /^\/email\/([^/]+)(\/html)?$/.exec(path) ?? []
  const one = mails.find((mail) => mail.id === id)
  if (method === 'GET' && path === '/') return { type: 'text/html', body: inboxPage, policy: pagePolicy }
  if (method === 'GET' && path === '/healthz') return { body: 'true' }
  if (method === 'GET' && path === '/email') {
    // The page asks each second; a thousand mails are only sent again when one was added.
    return { body: JSON.stringify(mails), tag: `"${mails.length}-${mails.at(-1)?.id}"` }
  }
  if (method === 'GET' && one)
    return html ? { type: 'text/html', body: one.html, policy: mailPolicy } : { body: JSON.stringify(one) }
  if (method === 'DELETE' && path === '/email/all') {
    clear()
    return { body: 'true' }
  }
  return { status: 404, body: JSON.stringify({ error: 'not found' }) }
}

/** The page runs its own inline script; a mail's HTML runs nothing and loads nothing, also when opened by itself. */
const pagePolicy =
  "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-src 'self'"
const mailPolicy = "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:"

function listen(
  server: {
    listen(port: number, host: string): unknown
    address(): unknown
    once: NodeJS.EventEmitter['once']
    off: NodeJS.EventEmitter['off']
  },
  port: number,
  host: string,
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.once('listening', () => {
      server.off('error', reject)
      resolve((server.address() as AddressInfo).port)
    })
    server.listen(port, host)
  })
}

function load(store: string, keep: number): Mail[] {
  mkdirSync(dirname(store), { recursive: true })
  if (!existsSync(store)) return []
  const lines = readFileSync(store, 'utf8').split('\n')
  // Killed while writing, the last line may be cut off; that mail was not accepted, so its sender repeats it.
  const whole = lines.slice(0, -1).map((line) => JSON.parse(line) as Mail)
  const mails = whole.slice(-keep)
  if (lines.at(-1) || mails.length < whole.length) save(store, mails)
  return mails
}

function save(store: string, mails: Mail[]): void {
  writeFileSync(`${store}.new`, mails.map((mail) => `${JSON.stringify(mail)}\n`).join(''), { mode: 0o600 })
  renameSync(`${store}.new`, store)
}
