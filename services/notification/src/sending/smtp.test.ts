import { afterEach, expect, test } from '@jest/globals'
import { eventually } from '@shopstream/testing'
import { composeMail } from '../mails/mail.ts'
import { createMailTransport, type TransportOptions } from './smtp.ts'
import { type Replies, type Reply, type SmtpStub, startSmtpStub } from './smtp-stub.ts'

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const from = 'shop <shop@example.com>'
const never = new AbortController().signal
const mailTo = (email: string, text = 'Hello.', subject = 'News') =>
  composeMail(from, {
    kind: 'mailing',
    causeId: 'cause',
    subject,
    text,
    createdAt: new Date(0),
    recipient: { email },
  })

/** A stub, a transport for it, and the lines of the mails and recipients that it got. */
async function meet(replies: Replies = {}, options: Partial<TransportOptions> = {}, login = '', query = '') {
  const got: string[] = []
  const mails: string[][] = []
  const stub: SmtpStub = await startSmtpStub({
    ...replies,
    recipient(address) {
      got.push(address)
      return replies.recipient ? replies.recipient(address) : '250 ok'
    },
    async mail(address, lines) {
      mails.push(lines)
      return replies.mail ? replies.mail(address, lines) : '250 accepted'
    },
  })
  const url = `${stub.url.replace('smtp://', `smtp://${login}`)}${query}`
  const transport = createMailTransport({ url, from, handoverMs: 5_000, answerMs: 5_000, ...options })
  undo.push(stub.close, transport.close)
  const send = (email = 'ana@example.com', text?: string, subject?: string) =>
    transport.send(mailTo(email, text, subject), never)
  return { stub, transport, send, got, mails }
}

test('a domain of any script goes as ASCII, a subject as encoded words, and the rest is ASCII too', async () => {
  const { send, got, mails } = await meet()
  await send('ana@bücher.example', 'Ünïcode, 山田', 'Grüße')
  expect(got).toEqual(['ana@xn--bcher-kva.example'])
  expect(mails.flat().join('\n')).toMatch(/^[\p{ASCII}]*$/u)
  expect(mails.flat().join('\n')).toMatch(/^To: <?ana@xn--bcher-kva\.example>?$/m)
})

test.each<[string, Replies, string, string, object]>([
  ['SMTPUTF8', {}, 'rémy@example.com', 'text', { detail: expect.stringContaining('SMTPUTF8') }],
  [
    'the size',
    { offers: ['SIZE 2000'] },
    'ana@example.com',
    'x'.repeat(3_000),
    { detail: expect.stringMatching(/\d+ bytes/) },
  ],
])('what a server does not offer is not used: %s', async (_what, replies, email, text, error) => {
  const { send, got, mails, stub } = await meet(replies)
  await expect(send(email, text)).rejects.toMatchObject({ code: 'EUNSUPPORTED', ...error })
  expect([got, mails]).toEqual([[], []])
  await send('ana@example.com')
  expect(stub.connections).toBe(1) // it goes on with the same one
})

test('an address of any script goes to a server that offers SMTPUTF8', async () => {
  const { send, got } = await meet({ offers: ['SMTPUTF8', '8BITMIME', 'SIZE'] })
  await send('rémy@bücher.example')
  expect(got).toEqual(['rémy@bücher.example'])
})

test.each<[string, Partial<TransportOptions>, string, string, object]>([
  ['AUTH', {}, 'user:secret@', '', { code: 'EUNSUPPORTED', detail: expect.stringContaining('AUTH') }],
  ['SMTPUTF8 for MAIL_FROM', { from: 'läden@example.com' }, '', '', { code: 'EUNSUPPORTED' }],
  ['STARTTLS', {}, '', '?requireTLS=true', { code: 'ETLS' }],
])('without %s, which the settings need, no mail is sent', async (_what, options, login, query, error) => {
  const { send, transport, got, mails } = await meet({}, options, login, query)
  await expect(send()).rejects.toMatchObject({ stage: 'session', ...error })
  await expect(transport.verify()).rejects.toMatchObject(error)
  expect([got, mails]).toEqual([[], []])
})

const mute = () => new Promise<Reply>(() => {})

test.each<[string, Replies, object]>([
  ['silent at the login', { command: mute }, { stage: 'session', code: 'ETIMEDOUT' }],
  ['silent at the recipient', { recipient: mute }, { stage: 'envelope', code: 'ETIMEDOUT' }],
  ['breaks off at the recipient', { recipient: () => undefined }, { stage: 'envelope', code: 'ECONNECTION' }],
  ['silent after the data', { mail: mute }, { stage: 'data', code: 'ETIMEDOUT' }],
  ['breaks off after the data', { mail: async () => undefined }, { stage: 'data', code: 'ECONNECTION' }],
  ['refuses', { mail: async () => '550 5.7.1 no' }, { stage: 'data', code: 'EMESSAGE', responseCode: 550 }],
  ['shuts down', { mail: async () => '421 bye' }, { stage: 'data', code: 'EMESSAGE', responseCode: 421 }],
])('a failure tells how far the mail came: the server %s', async (_what, replies, error) => {
  const { send } = await meet(replies, { handoverMs: 300, answerMs: 300 })
  await expect(send()).rejects.toMatchObject(error)
})

test('an aborted mail tells how far it came', async () => {
  const stopping = new AbortController()
  const { transport, mails } = await meet({ mail: mute })
  const sending = transport.send(mailTo('ana@example.com'), stopping.signal)
  sending.catch(() => {})
  await eventually('the data', () => mails.length === 1)
  stopping.abort()
  await expect(sending).rejects.toMatchObject({ stage: 'data', code: 'EABORT' })
  await expect(transport.send(mailTo('ana@example.com'), stopping.signal)).rejects.toMatchObject({ stage: 'session' })
})

test('a connection is used again, and one that the server has ended meanwhile costs no mail', async () => {
  let drops = false
  const { send, mails, stub } = await meet({
    command(line) {
      if (line.startsWith('MAIL') && drops) {
        drops = false
        return undefined
      }
      return line === 'DATA' ? '354 go on' : '250 ok'
    },
  })
  for (const _ of Array(15)) await send()
  expect(stub.connections).toBe(1)
  drops = true
  await send()
  expect([mails.length, stub.connections]).toEqual([16, 2])
})
