import { rmSync } from 'node:fs'
import { join } from 'node:path'
import tls from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import {
  eventually,
  freePort,
  hasOpenssl,
  makeCertificates,
  startRabbitmq,
  temporaryFolder,
  whyNoRabbitmq,
} from '@shopstream/local-servers'
import { pause } from '@shopstream/messaging'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { testLogger } from '@shopstream/testing'
import { type Channel, connect, type GetMessage } from 'amqplib'
import { messageOf, sendAll, testOutlet } from '../testing/conformance.ts'
import { startSlowLine } from '../testing/slow-line.ts'
import type { OutletOptions } from './options.ts'
import { openOutlet } from './outlet.ts'

const password = 'a-secret-word'
/** The broker takes no message that is larger. */
const maxMessageSize = 100_000
/**
 * RabbitMQ 3.10.8 writes down twice a second which quorum queues it has. One that was declared right before a kill -9 is there
 * again without its member, and confirms nothing any more.
 */
const membersMs = 2_500
const folders: string[] = []
const folder = () => {
  const dir = temporaryFolder('rabbitmq')
  folders.push(dir)
  return dir
}

type Server = Awaited<ReturnType<typeof startRabbitmq>>
let server: Server
const lacks = whyNoRabbitmq()
beforeAll(async () => {
  if (lacks) return
  const settings = [`max_message_size = ${maxMessageSize}`]
  server = await startRabbitmq({ dir: folder(), port: await freePort(), password, settings })
}, 120_000)
afterAll(async () => {
  await server?.stop()
  for (const dir of folders) rmSync(dir, { recursive: true, force: true })
})

const open = (options: Partial<OutletOptions>, url = server.url, confirmMs?: number) =>
  openOutlet({ bridge: 'test', options: { url: 'RABBITMQ_URL', ...options }, url, logger: testLogger() }, confirmMs)

async function onChannel<T>(work: (channel: Channel) => Promise<T>): Promise<T> {
  const connection = await connect(server.url)
  connection.on('error', () => {})
  try {
    const channel = await connection.createChannel()
    channel.on('error', () => {})
    return await work(channel)
  } finally {
    await connection.close().catch(() => {})
  }
}

/** Up to so many messages; those that are not acknowledged stand in their places again when the connection ends. */
const read = (queue: string, count = 1_000_000, noAck = false) =>
  onChannel(async (channel) => {
    const found: GetMessage[] = []
    for (let one = await channel.get(queue, { noAck }); one; one = await channel.get(queue, { noAck })) {
      found.push(one)
      if (found.length === count) break
    }
    return found
  })

const idsIn = async (queue: string) => (await read(queue)).map(({ properties }) => properties.messageId)

let places = 0
const conforming = (type: 'quorum' | 'classic') => async () => ({
  password,
  async place(maxLength?: number) {
    const name = `${type}-${++places}`
    const options: Partial<OutletOptions> = {
      exchange: `${name}.events`,
      queues: [{ name, type, bind: ['loyalty.*'], ...(maxLength && { maxLength }) }],
    }
    const outlet = open(options)
    if (type === 'quorum') {
      await outlet.send([])
      await pause(membersMs)
    }
    return {
      outlet,
      stranger: open(options, server.url.replace(password, 'another-word')),
      arrived: async () =>
        (await read(name)).map(({ properties, content }) => ({ id: properties.messageId, body: content })),
      makeRoom: async () => void (await read(name, 8, true)),
    }
  },
  kill: () => server.kill(),
  restart: () => server.restart(),
  stop: async () => {},
})

testOutlet({ name: 'a quorum queue of RabbitMQ', lacks, start: conforming('quorum') })
testOutlet({ name: 'a classic queue of RabbitMQ', lacks, start: conforming('classic') })

const ifRabbitmq = lacks ? describe.skip : describe
ifRabbitmq('an outlet to RabbitMQ', () => {
  test('refuses what is larger than the broker takes, and brings its neighbours', async () => {
    const outlet = open({ exchange: 'large', queues: [{ name: 'large' }] })
    const large = messageOf('large', 0, maxMessageSize)
    const all = [messageOf('a', 0), large, messageOf('b', 0), messageOf('c', 0)]
    const results = await outlet.send(all)
    expect(results).toEqual([undefined, expect.any(MessageRefused), undefined, undefined])
    expect(results[1]?.message).toMatch(/has \d+ bytes, and RabbitMQ's max_message_size is 100000/)
    const small = all.filter((one) => one !== large).map(({ id }) => id)
    expect([...new Set(await idsIn('large'))].sort()).toEqual(small.sort())
    expect(await outlet.send([messageOf('d', 0)])).toEqual([undefined])
    await outlet.close()
  })

  test('waits for a queue that stands there with another declaration, and says what differs', async () => {
    await onChannel((channel) =>
      channel.assertQueue('other', { durable: true, arguments: { 'x-queue-type': 'quorum' } }),
    )
    const outlet = open({ exchange: 'other', queues: [{ name: 'other', maxLength: 10 }] })
    await expect(outlet.send([])).rejects.toThrow(/inequivalent arg 'x-max-length' for queue 'other'/)
    const error = await outlet.send([messageOf('a', 0)]).catch((thrown: Error) => thrown)
    expect(error).not.toBeInstanceOf(MessageRefused)
    await onChannel((channel) => channel.deleteQueue('other'))
    expect(await sendAll(outlet, [messageOf('a', 0)])).toBe(0)
    expect(await idsIn('other')).toHaveLength(1)
    await outlet.close()
  })

  test('says that its vhost is not there', async () => {
    const outlet = open({}, new URL('/nowhere', server.url).href)
    await expect(outlet.send([])).rejects.toThrow(/does not open the vhost of its URL/)
    await outlet.close()
  })

  test('says that no queue takes a message, and brings it once one is bound', async () => {
    const outlet = open({ exchange: 'unbound' })
    const [one] = [messageOf('a', 0)]
    const [error] = await outlet.send([one])
    expect(error).not.toBeInstanceOf(MessageRefused)
    expect(error?.message).toMatch(/no queue takes loyalty.PointsAwarded of exchange "unbound" .*: declare or bind one/)
    await onChannel(async (channel) => {
      await channel.assertQueue('bound', { durable: true })
      await channel.bindQueue('bound', 'unbound', 'loyalty.#')
    })
    expect(await outlet.send([one])).toEqual([undefined])
    expect(await idsIn('bound')).toEqual([one.id])
    await outlet.close()
  })
})

ifRabbitmq('an outlet to RabbitMQ, in bad days,', () => {
  test('declares a queue of its row again that somebody has deleted', async () => {
    const outlet = open({ exchange: '', routingKey: '{key}', queues: [{ name: 'a$&b' }] })
    const one = messageOf('a$&b', 0)
    expect(await outlet.send([one])).toEqual([undefined])
    await onChannel((channel) => channel.deleteQueue('a$&b'))
    expect((await outlet.send([one]))[0]?.message).toMatch(/no queue takes/)
    await outlet.send([]) // as is asked while it waits
    expect(await outlet.send([one])).toEqual([undefined])
    await outlet.close()
  })

  test('sends nothing more of what a broker does not read, and leaves no connection behind', async () => {
    const settings = ['vm_memory_high_watermark.absolute = 1MB']
    const short = await startRabbitmq({ dir: folder(), port: await freePort(), password, settings })
    const line = await startSlowLine(short.url, 1_000_000)
    const outlet = open({ exchange: 'short', queues: [{ name: 'short' }] }, line.url, 500)
    for (let n = 0; n < 3; n += 1)
      await expect(outlet.send([messageOf('a', n)])).rejects.toThrow('RabbitMQ takes nothing: low on memory')
    expect(line.connections()).toBe(1)
    await outlet.close()
    await eventually('no connection', () => line.connections() === 0)
    line.stop()
    await short.stop()
  }, 120_000)

  test('a slow line brings each once: confirms that come in time end no connection', async () => {
    const line = await startSlowLine(server.url, 400)
    const outlet = open({ exchange: 'slow', queues: [{ name: 'slow' }] }, line.url, 4_000)
    const all = Array.from({ length: 500 }, (_, n) => messageOf(`key-${n}`, 0, 7_000)) // for 9 s
    expect((await outlet.send(all)).filter(Boolean)).toEqual([])
    expect(await idsIn('slow')).toEqual(all.map(({ id }) => id))
    await outlet.close()
    line.stop()
  }, 60_000)
})

const lacksTls = lacks ?? ((await hasOpenssl()) ? undefined : 'needs openssl')
const tlsTest = lacksTls ? test.skip : test
tlsTest(
  `amqps: trusts whom the machine trusts${lacksTls ? ` (skipped: it ${lacksTls})` : ''}`,
  async () => {
    const dir = folder()
    const { ca, of } = await makeCertificates(join(dir, 'certificates'), ['rabbitmq'])
    const secured = await startRabbitmq({ dir, port: await freePort(), password, tls: { ca, ...of('rabbitmq') } })
    const trusted = tls.getCACertificates('default')
    const outlet = open({ exchange: 'secured', queues: [{ name: 'secured' }] }, secured.url)
    try {
      await expect(outlet.send([])).rejects.toThrow(/certificate/)
      tls.setDefaultCACertificates([...trusted, ca])
      expect(await outlet.send([messageOf('key', 0)])).toEqual([undefined])
    } finally {
      tls.setDefaultCACertificates(trusted)
      await outlet.close()
      await secured.stop()
    }
  },
  120_000,
)
