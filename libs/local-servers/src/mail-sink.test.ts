import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { type Mail, type MailSink, startMailSink } from './mail-sink.ts'

let dir: string
let sink: MailSink
let store: string
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'shopstream-mail-'))
  store = join(dir, 'mails.jsonl')
  sink = await startMailSink({ store, keep: 5 })
})
afterEach(async () => {
  await sink.close()
  rmSync(dir, { recursive: true, force: true })
})

/** Speaks SMTP by hand, so that the server is tested and no client. Returns the answers' codes. */
async function smtp(commands: string[]): Promise<number[]> {
  const socket = createConnection(sink.smtpPort, '127.0.0.1').setEncoding('utf8')
  const codes: number[] = []
  let text = ''
  const answer = async () => {
    while (!/^\d{3} .*\r\n/m.test(text)) {
      const chunk = await new Promise<string>((resolve) => socket.once('data', (data) => resolve(String(data))))
      text += chunk
    }
    codes.push(Number(/^(\d{3}) /m.exec(text)?.[1]))
    text = ''
  }
  await answer()
  for (const command of commands) {
    socket.write(`${command}\r\n`)
    await answer()
  }
  socket.destroy()
  return codes
}

const mail = (subject: string, ...lines: string[]) => [
  'EHLO test',
  'MAIL FROM:<shop@shop.example>',
  'RCPT TO:<zoe@shop.example>',
  'DATA',
  [
    'From: The shop <shop@shop.example>',
    'To: =?utf-8?B?WsOzw6s=?= <zoe@shop.example>',
    `Subject: ${subject}`,
    'Message-ID: <cause-1@shop.example>',
    'X-Cause: 日本',
    'Content-Type: text/plain; charset=utf-8',
    '',
    ...lines,
    '.',
  ].join('\r\n'),
]
const get = (path: string, init?: RequestInit) => fetch(`${sink.uiUrl}${path}`, init)
const list = async () => (await (await get('/email')).json()) as Mail[]

test('a mail is listed as MailDev lists it, in any script', async () => {
  expect(await smtp(mail('=?utf-8?B?5rOo5paH?= confirmed', 'Grüße, 你好'))).toEqual([220, 250, 250, 250, 354, 250])
  expect(await list()).toEqual([
    {
      id: expect.any(String),
      subject: '注文 confirmed',
      from: [{ address: 'shop@shop.example', name: 'The shop' }],
      to: [{ address: 'zoe@shop.example', name: 'Zóë' }],
      text: 'Grüße, 你好\n',
      html: '',
      headers: expect.objectContaining({ 'message-id': '<cause-1@shop.example>', subject: '注文 confirmed' }),
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    },
  ])
})

test('login is possible and not required', async () => {
  const plain = Buffer.from('\0someone\0anything').toString('base64')
  expect(await smtp(['EHLO test', `AUTH PLAIN ${plain}`])).toEqual([220, 250, 235])
})

test('mails outlive a restart, also one that cut off the last line; the oldest are dropped', async () => {
  for (const number of [1, 2, 3, 4, 5, 6, 7]) await smtp(mail(`mail ${number}`, 'x'))
  await sink.close()
  appendFileSync(store, '{"id":"cut o')
  sink = await startMailSink({ store, keep: 5 })
  const subjects = () => sink.mails().map(({ subject }) => subject)
  expect(subjects()).toEqual(['mail 3', 'mail 4', 'mail 5', 'mail 6', 'mail 7'])
  for (const number of [8, 9, 10, 11, 12, 13, 14]) await smtp(mail(`mail ${number}`, 'x'))
  expect(readFileSync(store, 'utf8').split('\n').length).toBeLessThanOrEqual(11)
  expect((await get('/email/all', { method: 'DELETE' })).status).toBe(200)
  expect([await list(), readFileSync(store, 'utf8')]).toEqual([[], ''])
})

test('a mail of more than 10 MiB is refused', async () => {
  const codes = await smtp(['EHLO test', 'MAIL FROM:<a@shop.example> SIZE=20000000'])
  expect(codes.at(-1)).toBe(552)
  expect(sink.mails()).toEqual([])
})

test("a mail's HTML may run nothing and load nothing, and the list is sent again only when it changed", async () => {
  const html = mail('shipped', '<script>alert(1)</script><b>Hi</b>').map((line) =>
    line.replace('text/plain', 'text/html'),
  )
  await smtp(html)
  const [one] = await list()
  const page = await get(`/email/${one?.id}/html`)
  expect(page.headers.get('content-security-policy')).toMatch(/^sandbox[^;]*; default-src 'none'/)
  expect(await page.text()).toContain('<b>Hi</b>')
  const first = await get('/email')
  await first.text()
  const again = await get('/email', { headers: { 'if-none-match': first.headers.get('etag') ?? '' } })
  expect(again.status).toBe(304)
  expect((await get('/')).headers.get('content-type')).toContain('text/html')
  expect((await get('/email/unknown')).status).toBe(404)
})

test('a taken port is an error, and the other port is given back', async () => {
  await expect(startMailSink({ uiPort: sink.uiPort })).rejects.toThrow('EADDRINUSE')
  await expect(startMailSink({ smtpPort: sink.smtpPort })).rejects.toThrow('EADDRINUSE')
})
