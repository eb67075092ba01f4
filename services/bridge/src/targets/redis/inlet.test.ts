import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { eventually, freePort, startRedis, temporaryFolder, whyNoRedis } from '@shopstream/local-servers'
import { testLogger } from '@shopstream/testing'
import { inHandBytes, maxHeaderBytes, type Received } from '../target.ts'
import { messageOf, readBody, startServer, waysOf } from '../testing/conformance.ts'
import { testInlet } from '../testing/inlets.ts'
import { redis } from './index.ts'
import { openInlet } from './inlet.ts'
import { openOutlet } from './outlet.ts'
import { clientOf } from './testing.ts'

const lacks = whyNoRedis()
testInlet({
  name: 'Redis',
  lacks,
  async start() {
    const running = await startServer('redis-inlets', startRedis)
    let places = 0
    async function place() {
      const stream = `place-${++places}`
      const remove = async () => {
        const client = await clientOf(running.url)
        await client.del(stream)
        client.destroy()
      }
      return { ...(await waysOf(redis, running, { url: 'REDIS_URL', stream })), remove }
    }
    return { ...running, place }
  },
})

const ifRedis = lacks ? describe.skip : describe
ifRedis(`an inlet from Redis${lacks ? ` (skipped: it ${lacks})` : ''}`, () => {
  const password = 'a-secret-word'
  let dir: string
  let server: Awaited<ReturnType<typeof startRedis>>
  let client: Awaited<ReturnType<typeof clientOf>>
  beforeAll(async () => {
    dir = temporaryFolder('redis-inlet')
    server = await startRedis({ dir, port: await freePort(), password })
    client = await clientOf(server.url)
  })
  afterAll(async () => {
    client?.destroy()
    await server?.stop()
    rmSync(dir, { recursive: true, force: true })
  })

  const open = (stream: string, options: { count?: number; claimAfterSeconds?: number } = {}) =>
    openInlet({
      bridge: 'test',
      options: { url: 'REDIS_URL', stream, ...options },
      url: server.url,
      logger: testLogger(),
    })
  const numberOf = ({ body }: Received) => readBody(body).n
  const countWaiting = async (stream: string) => (await client.xPending(stream, 'shopstream')).pending

  /** Fills a stream as a bridge does. */
  async function fill(stream: string, from: number, to: number) {
    const outlet = openOutlet({
      bridge: 'out',
      options: { url: 'REDIS_URL', stream },
      url: server.url,
      logger: testLogger(),
    })
    await outlet.send(Array.from({ length: to - from }, (_, n) => messageOf('key', from + n)))
    await outlet.close()
  }

  /** Receives until so many have come, with what fails and how often. */
  async function receive(inlet: ReturnType<typeof open>, until: number, take = async (_: readonly Received[]) => {}) {
    const got: Received[] = []
    const stop = new AbortController()
    const receiving = inlet.receive(async (messages) => {
      if (messages.length > 0) await take(messages)
      got.push(...messages)
      if (got.length >= until) stop.abort()
    }, stop.signal)
    await receiving
    return got
  }
  const upTo = (count: number, from = 0) => Array.from({ length: count }, (_, n) => n + from)

  test('brings what was there before and what comes, in order, and leaves nothing behind', async () => {
    await fill('all', 0, 250)
    const inlet = open('all', { count: 100 })
    const receiving = receive(inlet, 300)
    await eventually('the first', async () => (await client.xInfoGroups('all')).length === 1)
    await fill('all', 250, 300)
    expect((await receiving).map(numberOf)).toEqual(upTo(300))
    expect(await countWaiting('all')).toBe(0)
    await inlet.close()
  })

  test('reads on where memory is full, which makes no group and has none to make', async () => {
    await fill('memory', 0, 10)
    expect(await receive(open('memory', { count: 5 }), 5)).toHaveLength(5)
    await client.configSet('maxmemory', '1')
    const got = await receive(open('memory'), 5).finally(() => client.configSet('maxmemory', '0'))
    expect(got.map(numberOf)).toEqual(upTo(5, 5))
  })

  test('what is written field by field comes as a CloudEvent in binary mode', async () => {
    await client.sendCommand(['XADD', 'fields', '*', 'id', 'a', 'specversion', '1.0', 'data', '{"ü":1}'])
    await client.sendCommand(['XADD', 'fields', '*', 'nothing', 'of', 'ours', ''])
    const inlet = open('fields')
    expect(await receive(inlet, 2)).toEqual([
      { body: Buffer.from('{"ü":1}'), contentType: '', headers: { 'ce-id': 'a', 'ce-specversion': '1.0' } },
      {
        body: Buffer.alloc(0),
        contentType: '',
        headers: { 'ce-nothing': 'of', 'ce-ours': '' },
        unfit: expect.stringMatching(/cloudevent, .* nor data/),
      },
    ])
    await inlet.close()
  })

  test('what was read and could not be taken comes again, before what is new', async () => {
    await fill('again', 0, 20)
    const inlet = open('again', { count: 10 })
    let attempts = 0
    const fails = async (): Promise<void> => {
      attempts += 1
      if (attempts === 2) throw new Error('the database has gone')
    }
    const first: number[] = []
    const failing = receive(inlet, 20, async (messages) => {
      await fails()
      first.push(...messages.map(numberOf))
    })
    await expect(failing).rejects.toThrow('the database has gone')
    expect([first, await countWaiting('again')]).toEqual([upTo(10), 10])
    await fill('again', 20, 25)
    expect((await receive(inlet, 15)).map(numberOf)).toEqual(upTo(15, 10))
    expect(await countWaiting('again')).toBe(0)
    await inlet.close()
  })

  test('what was taken comes again where its XACK was lost', async () => {
    await fill('lost', 0, 5)
    const inlet = open('lost')
    const cut = receive(inlet, 5, async () => {
      const others = (await client.sendCommand<string>(['CLIENT', 'LIST'])).split('\n')
      const ids = others
        .filter((line) => line.includes('name=shopstream-bridge-test '))
        .map((line) => /id=(\d+)/.exec(line)?.[1])
      for (const id of ids) await client.sendCommand(['CLIENT', 'KILL', 'ID', String(id)])
    })
    await expect(cut).rejects.toThrow(/Redis/)
    expect((await receive(inlet, 5)).map(numberOf)).toEqual(upTo(5))
    expect(await countWaiting('lost')).toBe(0)
    await inlet.close()
  })

  test('what a dead reader holds is taken from it, and comes before what is new', async () => {
    await fill('claimed', 0, 30)
    await client.sendCommand(['XGROUP', 'CREATE', 'claimed', 'shopstream', '0'])
    const read = ['XREADGROUP', 'GROUP', 'shopstream', 'test-dead', 'COUNT', '10', 'STREAMS', 'claimed', '>']
    await client.sendCommand(read)
    const waiting = open('claimed', { count: 7 }) // its 60 s are not over
    expect((await receive(waiting, 20)).map(numberOf)).toEqual(upTo(20, 10))
    await waiting.close()
    expect(await countWaiting('claimed')).toBe(10)
    await fill('claimed', 30, 35)
    const inlet = open('claimed', { count: 7, claimAfterSeconds: 1 })
    const isIdle = async () =>
      (await client.xPendingRange('claimed', 'shopstream', '-', '+', 1))[0]?.millisecondsSinceLastDelivery
    await eventually('the dead reader to be idle', async () => Number(await isIdle()) > 1_000)
    expect((await receive(inlet, 15)).map(numberOf)).toEqual([...upTo(10), ...upTo(5, 30)])
    expect(await countWaiting('claimed')).toBe(0)
    await inlet.close()
  })

  test('claims again and again while it runs', async () => {
    await fill('later', 0, 10)
    const inlet = open('later', { claimAfterSeconds: 1 })
    const receiving = receive(inlet, 13)
    await eventually('the ten', async () => (await countWaiting('later')) === 0)
    // A reader that gets what comes in the moment in which it comes, and dies.
    const transaction = client.multi()
    for (let n = 10; n < 13; n += 1)
      transaction.addCommand(['XADD', 'later', '*', 'cloudevent', messageOf('key', n).body.toString()])
    transaction.addCommand(['XREADGROUP', 'GROUP', 'shopstream', 'test-dead', 'STREAMS', 'later', '>'])
    await transaction.exec()
    expect(await countWaiting('later')).toBe(3)
    expect((await receiving).map(numberOf)).toEqual(upTo(13))
    await inlet.close()
  })

  test('a deleted entry that was given to a reader is done with', async () => {
    await fill('deleted', 0, 4)
    await client.sendCommand(['XGROUP', 'CREATE', 'deleted', 'shopstream', '0'])
    await client.sendCommand(['XREADGROUP', 'GROUP', 'shopstream', 'test-dead', 'STREAMS', 'deleted', '>'])
    const ids = ((await client.xRange('deleted', '-', '+')) ?? []).map(({ id }) => id)
    await client.xDel('deleted', ids[3] ?? '') // before it is claimed
    const isIdle = async () =>
      (await client.xPendingRange('deleted', 'shopstream', '-', '+', 1))[0]?.millisecondsSinceLastDelivery
    await eventually('the dead reader to be idle', async () => Number(await isIdle()) > 1_000)
    const inlet = open('deleted', { count: 1, claimAfterSeconds: 1 })
    const got = await receive(inlet, 2, async () => void (await client.xDel('deleted', ids[1] ?? ''))) // once it is
    expect(got.map(numberOf)).toEqual([0, 2])
    expect(await countWaiting('deleted')).toBe(0)
    await inlet.close()
  })

  test.each(['all rights', 'no right to scripts'])('has few bytes in hand, with %s', async (rights) => {
    const stream = rights.replaceAll(' ', '-')
    const sizes = [...Array<number>(30).fill(1_000_000), 20_000_000, ...Array<number>(250).fill(10)]
    for (const [n, size] of sizes.entries())
      await client.sendCommand(['XADD', stream, '*', 'data', `${n} `.padEnd(size), 'id', 'a'])
    const acl = rights === 'all rights' ? '+@all' : '-@scripting'
    await client.sendCommand(['ACL', 'SETUSER', 'reader', 'on', '>reader', '~*', '&*', '+@all', acl])
    const inlet = openInlet({
      bridge: 'test',
      options: { url: 'REDIS_URL', stream },
      url: server.url.replace(/\/\/.*@/, '//reader:reader@'),
      logger: testLogger(),
    })
    let largestBatch = 0
    const got: number[] = []
    await receive(inlet, sizes.length, async (messages) => {
      const bytes = messages.reduce((sum, { body }) => sum + body.length, 0)
      if (messages.length > 1) largestBatch = Math.max(largestBatch, bytes - (messages.at(-1)?.body.length ?? 0))
      got.push(...messages.map(({ body }) => Number.parseInt(body.subarray(0, 8).toString(), 10)))
    })
    expect(got).toEqual(sizes.map((_, n) => n))
    expect(largestBatch).toBeLessThanOrEqual(inHandBytes)
    await inlet.close()
  })

  test('fields that are no attributes are not read to their ends, however large they are', async () => {
    const large = 'x'.repeat(100_000)
    await client.sendCommand(['XADD', 'large-field', '*', large, large, 'id', 'a', 'data', '{}'])
    const inlet = open('large-field')
    const text = 'x'.repeat(maxHeaderBytes + 1)
    expect(await receive(inlet, 1)).toEqual([
      { body: Buffer.from('{}'), contentType: '', headers: { [`ce-${text}`]: text, 'ce-id': 'a' } },
    ])
    await inlet.close()
  })

  test('throws when the server goes, and goes on where it was', async () => {
    await fill('outage', 0, 10)
    const inlet = open('outage')
    const stop = new AbortController()
    const got: number[] = []
    const take = async (messages: readonly Received[]) => void got.push(...messages.map(numberOf))
    const receiving = inlet.receive(take, stop.signal)
    await eventually('the first ten', () => got.length === 10)
    const threw = expect(receiving).rejects.toThrow(/Redis/)
    await server.kill()
    await threw
    await expect(inlet.receive(take, stop.signal)).rejects.toThrow(/Redis: .*ECONNREFUSED/)
    await server.restart()
    await fill('outage', 10, 12)
    expect((await receive(inlet, 2)).map(numberOf).slice(-2)).toEqual([10, 11])
    await inlet.close()
  })
})
