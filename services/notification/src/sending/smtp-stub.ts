import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

/** What the stub says to a recipient, and to a whole mail; each an SMTP reply. */
export interface Replies {
  recipient?(address: string): string
  /** `address` is its last recipient. */
  mail?(address: string): Promise<string>
}

/** An SMTP server for tests that refuses and delays as told, over real connections. Returns how to reach and end it. */
export async function startSmtpStub(replies: Replies): Promise<{ url: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    void converse(socket, replies)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  return {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((closed) => server.close(closed))
    },
  }
}

async function converse(socket: Socket, replies: Replies): Promise<void> {
  const say = (reply: string) => socket.write(`${reply}\r\n`)
  let isData = false
  let recipient = ''
  say('220 stub')
  for await (const line of createInterface({ input: socket })) {
    if (isData && line !== '.') continue
    recipient = addressOf(line) ?? recipient
    if (isData) say((await replies.mail?.(recipient)) ?? '250 accepted')
    else say(answer(line, replies))
    isData = !isData && line.toUpperCase() === 'DATA'
  }
}

const addressOf = (line: string) => /^RCPT TO:<(.*?)>/i.exec(line)?.[1]

function answer(line: string, replies: Replies): string {
  const address = addressOf(line)
  if (address !== undefined) return replies.recipient?.(address) ?? '250 ok'
  return line.toUpperCase() === 'DATA' ? '354 go on' : '250 ok'
}
