import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import {
  eventually,
  freePort,
  hasOpenssl,
  makeCertificates,
  startRedis,
  temporaryFolder,
  whyNoRedis,
} from '@shopstream/local-servers'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { testLogger } from '@shopstream/testing'
import { messageOf, sendAll, testOutlet } from '../testing/conformance.ts'
import { startSlowLine } from '../testing/slow-line.ts'
import type { OutletOptions } from './options.ts'
import { openOutlet } from './outlet.ts'
import { clientOf } from './testing.ts'

type Server = Awaited<ReturnType<typeof startRedis>>
type Client = Awaited<ReturnType<typeof clientOf>>

const password = 'a-secret-word'
const folders: string[] = []
const replicas: Server[] = []
afterAll(async () => {
  for (const replica of replicas) await replica.stop()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

async function start() {
  const dir = temporaryFolder('redis')
  folders.push(dir)
  const server = await startRedis({ dir, port: await freePort(), password })
  const client = await clientOf(server.url)
  return { server, client }
}

const open = (url: string, options: Partial<OutletOptions> = {}) =>
  openOutlet({ bridge: 'test', options: { url: 'REDIS_URL', ...options }, url, logger: testLogger() })

/** Entries of a stream, each with its fields. */
async function entriesOf(client: Client, stream: string): Promise<{ entry: string; [field: string]: string }[]> {
  const read = await client.sendCommand<[string, string[]][]>(['XRANGE', stream, '-', '+'])
  return read.map(([entry, texts]) => ({
    ...Object.fromEntries(texts.flatMap((name, n) => (n % 2 === 0 ? [[name, texts[n + 1] ?? '']] : []))),
    entry,
  }))
}

/** Reads and acknowledges up to so many entries. */
async function readOn(client: Client, stream: string, group: string, count: number, acknowledge = true) {
  const args = ['XREADGROUP', 'GROUP', group, 'reader', 'COUNT', String(count), 'STREAMS', stream, '>']
  const read = await client.sendCommand<[string, [string, string[]][]][]>(args)
  const ids = read?.[0]?.[1].map(([id]) => id) ?? []
  if (acknowledge && ids.length > 0) await client.sendCommand(['XACK', stream, group, ...ids])
  return ids
}

let places = 0
const conforming = (queue: boolean) => async () => {
  const { server, client } = await start()
  return {
    password,
    async place(maxLength = 100_000) {
      const key = `place-${++places}`
      const options = queue ? { queue: key, maxLength } : { stream: key, maxLength, groups: ['readers'] }
      return {
        outlet: open(server.url, options),
        stranger: open(server.url.replace(password, 'another-word'), options),
        async arrived() {
          if (!queue)
            return (await entriesOf(client, key)).map(({ id = '', cloudevent = '' }) => ({
              id,
              body: Buffer.from(cloudevent),
            }))
          const tasks = (await client.lRange(key, 0, -1)).toReversed().map((text) => JSON.parse(text))
          return tasks.map(({ properties, body }) => ({
            id: properties.correlation_id,
            body: Buffer.from(body, 'base64'),
          }))
        },
        async makeRoom() {
          if (queue) await client.rPopCount(key, 5)
          else await readOn(client, key, 'readers', 5)
        },
      }
    },
    kill: () => server.kill(),
    restart: () => server.restart(),
    async stop() {
      client.destroy()
      await server.stop()
    },
  }
}

const lacks = whyNoRedis()
testOutlet({ name: 'a stream of Redis', lacks, start: conforming(false) })
testOutlet({ name: "a queue of Celery's in Redis", lacks, start: conforming(true) })

const ifRedis = lacks ? describe.skip : describe
ifRedis('an outlet to Redis', () => {
  let server: Server
  let client: Client
  beforeAll(async () => {
    ;({ server, client } = await start())
  })
  afterAll(async () => {
    client?.destroy()
    await server?.stop()
  })
  const messages = (count: number) => Array.from({ length: count }, (_, n) => messageOf(`key-${n}`, 0))
  const countTaken = (results: readonly (Error | undefined)[]) => results.filter((one) => one === undefined).length

  test('makes room of what every group has acknowledged, and of nothing else', async () => {
    const outlet = open(server.url, { stream: 'kept', groups: ['quick', 'slow'], maxLength: 100 })
    const all = messages(300)
    expect(countTaken(await outlet.send(all.slice(0, 150)))).toBe(100)
    await readOn(client, 'kept', 'quick', 100)
    await readOn(client, 'kept', 'slow', 60, false)
    const held = await entriesOf(client, 'kept')
    // The slow one was given 60 and has acknowledged the first 30 and one of the middle.
    await client.sendCommand(['XACK', 'kept', 'slow', ...held.slice(0, 30).map(({ entry }) => entry)])
    await client.sendCommand(['XACK', 'kept', 'slow', held[45]?.entry ?? ''])
    const results = await outlet.send(all.slice(100, 150))
    expect(countTaken(results)).toBe(30)
    expect(results[30]?.message).toMatch(/stream kept is full: group slow has not acknowledged/)
    const now = await entriesOf(client, 'kept')
    expect(now.map(({ id }) => id)).toEqual(all.slice(30, 130).map(({ id }) => id))
    // A new group has to be given everything.
    const wider = open(server.url, { stream: 'kept', groups: ['quick', 'slow', 'new'], maxLength: 100 })
    await readOn(client, 'kept', 'slow', 100)
    await client.sendCommand(['XACK', 'kept', 'slow', ...held.map(({ entry }) => entry)])
    const [refused] = await wider.send([all[130] as never])
    expect(refused?.message).toMatch(/group new/)
    expect(await entriesOf(client, 'kept')).toEqual(now)
    await Promise.all([outlet.close(), wider.close()])
  })

  test('keeps about as many as the stream may have, and drops none before it is full', async () => {
    const outlet = open(server.url, { stream: 'long', groups: ['readers'], maxLength: 5_000 })
    for (let n = 0; n < 20; n += 1) {
      expect(countTaken(await outlet.send(messages(500)))).toBe(500)
      if (n === 9) expect(await client.xLen('long')).toBe(5_000)
      if (n >= 9) expect(await client.xLen('long')).toBeGreaterThan(3_500)
      await readOn(client, 'long', 'readers', 1_000)
    }
    expect(await client.xLen('long')).toBeLessThanOrEqual(5_000)
    await outlet.close()
  })

  test('without groups drops the oldest', async () => {
    const outlet = open(server.url, { stream: 'ring', maxLength: 10 })
    const all = messages(25)
    expect(countTaken(await outlet.send(all))).toBe(25)
    expect((await entriesOf(client, 'ring')).map(({ id }) => id)).toEqual(all.slice(15).map(({ id }) => id))
    await outlet.close()
  })

  test('writes attributes as fields in binary mode, and bytes as they are', async () => {
    const outlet = open(server.url, { stream: 'binary:{aggregate}:{event}' })
    const body = Buffer.from([0, 1, 2, 255, 254, 13, 10])
    const attributes = { specversion: '1.0', id: 'as-attribute', source: '/shopstream', subject: 'ü' }
    const message = { ...messageOf('ü', 0), body, attributes, contentType: 'application/avro' }
    expect(await outlet.send([message])).toEqual([undefined])
    const [entry] = await entriesOf(client, 'binary:loyalty:PointsAwarded')
    expect(entry).toMatchObject({ ...attributes, id: message.id, datacontenttype: 'application/avro' })
    const buffers = await clientOf(server.url)
    const raw = await buffers
      .withTypeMapping({ 36: Buffer } as never)
      .sendCommand<[Buffer, Buffer[]][]>(['XRANGE', 'binary:loyalty:PointsAwarded', '-', '+'])
    expect(raw[0]?.[1].at(-1)).toEqual(body)
    buffers.destroy()
    await outlet.close()
  })

  test('a key that is no stream holds up none of the others', async () => {
    await client.set('wrong:shop.loyalty.v1', 'text')
    const outlet = open(server.url, { stream: 'wrong:{topic}' })
    const wrong = messageOf('key', 0)
    const right = { ...messageOf('key', 0), topic: 'shop.order.v1' }
    const [first, second] = await outlet.send([wrong, right])
    expect([first?.message, second]).toEqual(['Redis holds something else under this key', undefined])
    await outlet.close()
  })

  test('memory that is full is no reason to refuse or to lose', async () => {
    const outlet = open(server.url, { stream: 'memory' })
    const all = messages(20)
    expect(countTaken(await outlet.send(all.slice(0, 10)))).toBe(10)
    await client.configSet('maxmemory', '1')
    const results = await outlet.send(all.slice(10))
    await client.configSet('maxmemory', '0')
    expect(results.map((error) => error?.message)).toEqual(
      all.slice(10).map(() => 'Redis has no memory left: see its maxmemory'),
    )
    expect(results.some((error) => error instanceof MessageRefused)).toBe(false)
    expect(countTaken(await outlet.send(all.slice(10)))).toBe(10)
    expect(await client.xLen('memory')).toBe(20)
    await outlet.close()
  })

  test('refuses what is larger than Redis takes', async () => {
    await client.configSet('proto-max-bulk-len', '1mb')
    const outlet = open(server.url, { stream: 'large' })
    const large = messageOf('large', 0, 1_500_000)
    const [before, error, after] = await outlet.send([messageOf('a', 0), large, messageOf('b', 0)])
    await client.configSet('proto-max-bulk-len', '512mb')
    expect([before, error, after]).toEqual([undefined, expect.any(MessageRefused), undefined])
    expect(error?.message).toMatch(/has 15\d{5} bytes, and proto-max-bulk-len is 1048576/)
    expect(await client.xLen('large')).toBe(2)
    await outlet.close()
  })

  test('large events go in several scripts', async () => {
    const outlet = open(server.url, { stream: 'several' })
    const all = Array.from({ length: 12 }, (_, n) => messageOf(`key-${n}`, 0, 1_000_000))
    expect(countTaken(await outlet.send(all))).toBe(12)
    expect((await entriesOf(client, 'several')).map(({ id }) => id)).toEqual(all.map(({ id }) => id))
    await outlet.close()
  })

  test('what a user may not do is no secret', async () => {
    await client.sendCommand(['ACL', 'SETUSER', 'reader', 'on', `>${password}`, '~*', '+@read'])
    const outlet = open(server.url.replace('shopstream:', 'reader:'), { stream: 'forbidden' })
    const [error] = await outlet.send(messages(1))
    expect(error?.message).toMatch(/^Redis: NOPERM/)
    await outlet.close()
  })

  test('adds nothing twice where a command besides XADD is forbidden', async () => {
    await client.sendCommand(['ACL', 'SETUSER', 'adder', 'on', `>${password}`, '~*', '+@all', '-xtrim'])
    const outlet = open(server.url.replace('shopstream:', 'adder:'), { stream: 'untrimmed', maxLength: 5 })
    const all = messages(7)
    await sendAll(outlet, all)
    const ids = (await entriesOf(client, 'untrimmed')).map(({ id }) => id)
    expect(ids).toEqual(all.slice(2).map(({ id }) => id))
    await outlet.close()
  })

  test('leaves a server that has become a replica: its name may lead to another by now', async () => {
    const outlet = open(server.url, { stream: 'demoted' })
    const mine = async () =>
      (await client.sendCommand<string>(['CLIENT', 'LIST'])).match(/name=shopstream-bridge/g) ?? []
    await outlet.send(messages(1))
    const before = (await mine()).length
    await client.sendCommand(['REPLICAOF', '127.0.0.1', String(await freePort())])
    await expect(outlet.send(messages(1))).rejects.toThrow('Redis is a replica, which takes nothing')
    await eventually('the connection to be gone', async () => (await mine()).length === before - 1)
    await client.sendCommand(['REPLICAOF', 'NO', 'ONE'])
    expect(await outlet.send(messages(1))).toEqual([undefined])
    await outlet.close()
  })

  test('says what ends a connection at once, and closes then', async () => {
    const other = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(0, '127.0.0.1')
    await once(other, 'listening')
    const outlet = open(`redis://127.0.0.1:${(other.address() as AddressInfo).port}`)
    await expect(outlet.send([])).rejects.toThrow('Redis: Socket closed unexpectedly')
    await outlet.close()
    other.close()
  })

  test('over a slow line sends as much at once as is answered in time, and comes to an end', async () => {
    const line = await startSlowLine(server.url, 250)
    const outlet = open(line.url, { stream: 'slow' })
    const all = Array.from({ length: 500 }, (_, n) => messageOf(`key-${n}`, 0, 7_000)) // for 14 s
    let left = all
    await eventually(
      'all to be taken',
      async () => {
        const results = await outlet.send(left).catch((error: Error) => left.map(() => error))
        left = left.filter((_, n) => results[n] !== undefined)
        return left.length === 0
      },
      { timeoutMs: 90_000 },
    )
    expect(new Set((await entriesOf(client, 'slow')).map(({ id }) => id))).toEqual(new Set(all.map(({ id }) => id)))
    await outlet.close()
    line.stop()
  }, 120_000)

  test('a server that does not answer is away', async () => {
    const outlet = open(server.url, { stream: 'stopped' })
    await outlet.send(messages(1))
    await server.kill('SIGSTOP')
    const both = await Promise.allSettled([outlet.send(messages(1)), outlet.send(messages(1))])
    const late = { status: 'rejected', reason: new Error('Redis has not answered for 10 s') }
    expect(both).toEqual([late, late])
    await server.kill('SIGCONT')
    await sendAll(outlet, messages(1))
    await outlet.close()
  })

  test('with replicas, nothing is there before they hold it, nor added again meanwhile', async () => {
    const outlet = open(server.url, { stream: 'replicated', replicas: 1 })
    const all = messages(20)
    await expect(outlet.send(all)).rejects.toThrow('0 of 1 replicas')
    expect(await client.xLen('replicated')).toBe(0)
    const dir = temporaryFolder('redis-replica')
    folders.push(dir)
    const replica = await startRedis({ dir, port: await freePort(), password })
    replicas.push(replica)
    const onReplica = await clientOf(replica.url)
    await onReplica.configSet({ masteruser: 'shopstream', masterauth: password })
    await onReplica.sendCommand(['REPLICAOF', '127.0.0.1', String(server.port)])
    await sendAll(outlet, all.slice(0, 10))
    expect(await onReplica.xLen('replicated')).toBe(10)
    await replica.kill('SIGSTOP')
    const results = await outlet.send(all.slice(10))
    expect(results.map((one) => one?.message)).toEqual(
      all.slice(10).map(() => expect.stringMatching(/0 of 1 replicas/)),
    )
    await replica.kill('SIGCONT')
    await sendAll(outlet, all.slice(10))
    expect((await entriesOf(client, 'replicated')).map(({ id }) => id)).toEqual(all.map(({ id }) => id))
    const [readonly] = await open(replica.url, { stream: 'replicated' })
      .send(messages(1))
      .catch((error: Error) => [error])
    expect(readonly?.message).toMatch(/is a replica/)
    onReplica.destroy()
    await outlet.close()
  })
})

const lacksTls = lacks ?? ((await hasOpenssl()) ? undefined : 'needs openssl')
const tlsTest = lacksTls ? test.skip : test
tlsTest(`rediss: trusts whom the machine trusts${lacksTls ? ` (skipped: it ${lacksTls})` : ''}`, async () => {
  const dir = temporaryFolder('redis-tls')
  folders.push(dir)
  const { ca, of } = await makeCertificates(join(dir, 'certificates'), ['redis'])
  const server = await startRedis({ dir, port: await freePort(), password, tls: { ca, ...of('redis') } })
  const outlet = open(server.url)
  await expect(outlet.send([messageOf('key', 0)])).rejects.toThrow(/certificate/)
  const trusted = tls.getCACertificates('default')
  tls.setDefaultCACertificates([...trusted, ca])
  expect(await outlet.send([messageOf('key', 0)])).toEqual([undefined])
  tls.setDefaultCACertificates(trusted)
  await outlet.close()
  await server.stop()
})
