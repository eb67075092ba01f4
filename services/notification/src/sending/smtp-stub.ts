import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

/** An SMTP reply; undefined: the connection is dropped instead. */
export type Reply = string | undefined

/** What the stub says to a recipient, and to a whole mail. */
export interface Replies {
  /** What it offers after EHLO, such as `SIZE 1000`. */
  offers?: string[]
  recipient?(address: string): Reply | Promise<Reply>
  /** `address` is its last recipient. */
  mail?(address: string, lines: string[]): Promise<Reply>
  /** Any other command, whatever the stub would say. */
  command?(line: string): Reply | Promise<Reply>
}

export interface SmtpStub {
  url: string
  /** Connections taken so far. */
  readonly connections: number
  close(): Promise<void>
}

/** An SMTP server for tests that refuses, delays and breaks off as told, over real connections. */
export async function startSmtpStub(replies: Replies): Promise<SmtpStub> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    void converse(socket, replies)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  return {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return connections
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((closed) => server.close(closed))
    },
  }
}

async function converse(socket: Socket, replies: Replies): Promise<void> {
  const say = (reply: Reply) => (reply === undefined ? socket.destroy() : socket.write(`${reply}\r\n`))
  let data: string[] | undefined
  let recipient = ''
  say('220 stub')
  for await (const line of createInterface({ input: socket })) {
    if (data && line !== '.') {
      data.push(line)
      continue
    }
    recipient = addressOf(line) ?? recipient
    if (data) say(replies.mail ? await replies.mail(recipient, data) : '250 accepted')
    else say(await answer(line, replies))
    data = !data && line.toUpperCase() === 'DATA' ? [] : undefined
  }
}

const addressOf = (line: string) => /^RCPT TO:<(.*?)>/i.exec(line)?.[1]

function answer(line: string, { offers = [], recipient, command }: Replies): Reply | Promise<Reply> {
  const address = addressOf(line)
  if (address !== undefined && recipient) return recipient(address)
  if (command) return command(line)
  if (/^EHLO/i.test(line)) return ['250-stub', ...offers.map((offer) => `250-${offer}`), '250 HELP'].join('\r\n')
  if (line === 'STARTTLS') return '502 5.5.1 not implemented'
  return line.toUpperCase() === 'DATA' ? '354 go on' : '250 ok'
}
