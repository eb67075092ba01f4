import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createClient } from '@redis/client'
import { connect } from 'amqplib'
import { eventually } from './eventually.ts'
import { hasOpenssl, makeCertificates } from './kafka-identities.ts'
import { startNats, whyNoNats } from './nats.ts'
import { answers, freePort } from './ports.ts'
import { startRabbitmq, stopLeftoverRabbitmq, whyNoRabbitmq } from './rabbitmq.ts'
import { startRedis, stopLeftoverRedis, whyNoRedis } from './redis.ts'
import { temporaryFolder } from './temporary.ts'

let dir: string
beforeAll(() => {
  dir = temporaryFolder('brokers')
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** A name with what some format, shell or URL reads otherwise. */
const odd = `ü #41 $(x)'`
const password = 'a-secret-word'
const unless = (lacks: string | undefined) => (lacks ? test.skip : test)
const name = (what: string, lacks: string | undefined) => (lacks ? `${what} (skipped: it ${lacks})` : what)
const openssl = (await hasOpenssl()) ? undefined : 'needs openssl'

/** Nobody but the owner reads a password, from a file or from the list of processes. */
function expectHidden(folder: string): void {
  expect(spawnSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).stdout).not.toContain(password)
  const open = readdirSync(folder).filter((file) => {
    const { mode } = statSync(join(folder, file))
    return (
      mode & 0o077 &&
      statSync(join(folder, file)).isFile() &&
      readFileSync(join(folder, file), 'utf8').includes(password)
    )
  })
  expect(open).toEqual([])
}

const redis = whyNoRedis()
unless(redis)(
  name('Redis keeps a key over a kill -9 and an orderly restart, and takes no wrong password', redis),
  async () => {
    const folder = join(dir, odd, 'redis')
    const server = await startRedis({ dir: folder, port: await freePort(), password })
    const ask = async <T>(url: string, work: (client: ReturnType<typeof createClient>) => Promise<T>): Promise<T> => {
      const client = createClient({ url, socket: { reconnectStrategy: false } }).on('error', () => {})
      await client.connect()
      try {
        return await work(client as ReturnType<typeof createClient>)
      } finally {
        client.destroy()
      }
    }
    try {
      expectHidden(folder)
      await ask(server.url, (client) => client.multi().set('kept', 'ünïcode').set('too', 'of one transaction').exec())
      const ended = server.pid
      await server.kill()
      expect(await answers(server.port)).toBe(false)
      await server.restart()
      expect(server.pid).not.toBe(ended)
      expect(await ask(server.url, (client) => client.get('kept'))).toBe('ünïcode')
      await server.restart()
      expect(await ask(server.url, (client) => client.get('kept'))).toBe('ünïcode')
      const asStranger = ask(server.url.replace(password, 'wrong'), (client) => client.get('kept'))
      await expect(asStranger).rejects.toThrow('WRONGPASS')
      await expect(ask(`redis://127.0.0.1:${server.port}`, (client) => client.get('kept'))).rejects.toThrow('NOAUTH')
    } finally {
      await server.stop()
    }
    expect([await answers(server.port), await stopLeftoverRedis(folder)]).toEqual([false, false])
  },
)

unless(redis ?? openssl)(name('Redis by TLS speaks nothing else', redis ?? openssl), async () => {
  const { ca, of } = await makeCertificates(join(dir, 'certificates-redis'), ['redis'])
  const tls = { ca, ...of('redis') }
  const server = await startRedis({ dir: join(dir, 'redis-tls'), port: await freePort(), password, tls })
  const open = (url: string, trusted?: string) =>
    createClient({ url, socket: { ...(trusted && { tls: true, ca: trusted }), reconnectStrategy: false } } as object)
      .on('error', () => {})
      .connect()
  try {
    const client = await open(server.url, ca)
    expect(await client.ping()).toBe('PONG')
    client.destroy()
    await expect(open(server.url)).rejects.toThrow() // this authority is unknown to the machine
    await expect(open(server.url.replace('rediss', 'redis'))).rejects.toThrow()
  } finally {
    await server.stop()
  }
})

const rabbitmq = whyNoRabbitmq()
const rabbitmqTest = name(
  'RabbitMQ keeps a message over a kill -9 and an orderly restart, and nothing outlives its end',
  rabbitmq,
)
unless(rabbitmq)(
  rabbitmqTest,
  async () => {
    const folder = join(dir, odd.replace("'", ''), 'rabbitmq') // with it RabbitMQ 4 asks `df` for ever
    const server = await startRabbitmq({ dir: folder, port: await freePort(), password })
    const mapperPort = Number(readFileSync(join(folder, 'epmd.port'), 'utf8'))
    const queue = 'kept'
    const read = async () => {
      const connection = await connect(server.url)
      const channel = await connection.createChannel()
      const message = await channel.get(queue, { noAck: false }) // given back when the connection ends
      await connection.close()
      return message ? message.content.toString() : undefined
    }
    try {
      expectHidden(folder)
      const connection = await connect(server.url)
      connection.on('error', () => {}) // of the kill
      const channel = await connection.createConfirmChannel()
      await channel.assertQueue(queue, { durable: true })
      channel.sendToQueue(queue, Buffer.from('ünïcode'), { persistent: true })
      await channel.waitForConfirms()
      await delay(3_000) // its own tables are on disk some 2 s after a declaration, the message at its confirm
      const closed = new Promise((resolve) => connection.on('close', resolve))
      await server.kill()
      await closed
      await server.restart()
      expect(await read()).toBe('ünïcode')
      await server.restart()
      expect(await read()).toBe('ünïcode')
      await expect(connect(server.url.replace(password, 'wrong'))).rejects.toThrow('ACCESS-REFUSED')
      await expect(connect(`amqp://guest:guest@127.0.0.1:${server.port}`)).rejects.toThrow('ACCESS-REFUSED')
      expect(await answers(mapperPort)).toBe(true)
    } finally {
      await server.stop()
    }
    expect([await answers(server.port), await answers(mapperPort)]).toEqual([false, false])
    expect(await stopLeftoverRabbitmq(folder)).toBe(false)
  },
  240_000,
)

unless(rabbitmq ?? openssl)(
  name('RabbitMQ by TLS speaks nothing else', rabbitmq ?? openssl),
  async () => {
    const { ca, of } = await makeCertificates(join(dir, 'certificates-rabbitmq'), ['rabbitmq'])
    const tls = { ca, ...of('rabbitmq') }
    const server = await startRabbitmq({ dir: join(dir, 'rabbitmq-tls'), port: await freePort(), password, tls })
    try {
      const connection = await connect(server.url, { ca: [ca] })
      await connection.close()
      await expect(connect(server.url)).rejects.toThrow() // this authority is unknown to the machine
      await expect(connect(server.url.replace('amqps', 'amqp'))).rejects.toThrow()
    } finally {
      await server.stop()
    }
  },
  120_000,
)

const nats = whyNoNats()
unless(nats)(name('NATS keeps a message of a stream over a kill -9, and takes no wrong password', nats), async () => {
  const folder = join(dir, odd, 'nats')
  const server = await startNats({ dir: folder, port: await freePort(), password })
  /** The server's answers to these lines of its protocol, until one of them matches. */
  const say = async (lines: string[], until: RegExp, pass = password) => {
    const socket = createConnection({ port: server.port, host: '127.0.0.1' })
    let said = ''
    socket
      .setEncoding('utf8')
      .on('data', (text) => (said += text))
      .on('error', () => {})
    const login = `CONNECT ${JSON.stringify({ verbose: false, user: 'shopstream', pass })}`
    socket.write(`${[login, 'SUB answers 1', ...lines].join('\r\n')}\r\n`)
    await eventually(`${until}`, () => until.test(said))
    socket.destroy()
    return said
  }
  const request = (subject: string, text: string) => [`PUB ${subject} answers ${Buffer.byteLength(text)}`, text]
  try {
    expectHidden(folder)
    const stream = JSON.stringify({ name: 'kept', subjects: ['kept.>'] })
    await say(request('$JS.API.STREAM.CREATE.kept', stream), /"did_create":true/)
    await say(request('kept.word', 'ünïcode'), /"stream":"kept", ?"seq":1/)
    await server.kill()
    await server.restart()
    await say(request('$JS.API.STREAM.INFO.kept', ''), /"messages":1,/)
    await say([], /Authorization Violation/, 'wrong')
  } finally {
    await server.stop()
  }
  expect(await answers(server.port)).toBe(false)
})
