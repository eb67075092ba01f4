/**
 * An SMTP server that answers at once, as a process of its own: it keeps of each mail its recipient and its Message-ID alone.
 * Tells its parent its port; asked for `count` it says how many mails it has, asked for `take` what they are, and forgets them.
 */
import { createServer, type Socket } from 'node:net'

export type Received = [recipient: string, messageId: string]
export type Question = 'count' | 'take'

let received: Received[] = []
const endOfMail = '\r\n.\r\n'

/** Says what a client's bytes are answered with; bytes that are no whole line or mail yet wait for the rest. */
function createSession(): (bytes: string) => string {
  let text = ''
  let recipient = ''
  let isData = false

  function next(): string | undefined {
    const end = text.indexOf(isData ? endOfMail : '\r\n')
    if (end === -1) return undefined
    const piece = text.slice(0, end)
    text = text.slice(end + (isData ? endOfMail.length : 2))
    return isData ? accept(piece) : answer(piece)
  }

  function accept(mail: string): string {
    isData = false
    received.push([recipient, /^message-id: *(.*)$/im.exec(mail)?.[1]?.trim() ?? ''])
    return '250 accepted'
  }

  function answer(line: string): string {
    recipient = /^RCPT TO:<(.*?)>/i.exec(line)?.[1] ?? recipient
    if (/^EHLO/i.test(line)) return '250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8'
    if (/^QUIT/i.test(line)) return '221 bye'
    isData = /^DATA/i.test(line)
    return isData ? '354 go on' : '250 ok'
  }

  return (bytes) => {
    text += bytes
    let answers = ''
    for (let one = next(); one !== undefined; one = next()) answers += `${one}\r\n`
    return answers
  }
}

function converse(socket: Socket): void {
  const session = createSession()
  socket.setNoDelay(true).setEncoding('latin1').write('220 sink\r\n')
  socket.on('error', () => socket.destroy())
  socket.on('data', (bytes) => {
    const answers = session(String(bytes))
    if (answers !== '') socket.write(answers)
    if (answers.endsWith('221 bye\r\n')) socket.end()
  })
}

const server = createServer(converse)
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as { port: number }).port))
process.on('message', (question: Question) => {
  process.send?.(question === 'count' ? received.length : received)
  if (question === 'take') received = []
})
process.on('disconnect', () => process.exit())
