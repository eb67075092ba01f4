import { rmSync } from 'node:fs'
import { expect, test } from '@jest/globals'
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { eventually, freePort, startNats, temporaryFolder, whyNoNats } from '@shopstream/local-servers'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { testLogger } from '@shopstream/testing'
import { type Inlet, inHandBytes, type Outlet } from '../target.ts'
import { messageOf, readBody, testOutlet } from '../testing/conformance.ts'
import { nats } from './index.ts'

const password = 'a-secret-word'

async function start() {
  const dir = temporaryFolder('nats')
  const server = await startNats({ dir, port: await freePort(), password })
  async function ask<T>(work: (jsm: JetStreamManager) => Promise<T>): Promise<T> {
    const nc = await connect({ servers: `127.0.0.1:${server.port}`, user: 'shopstream', pass: password })
    return work(await jetstreamManager(nc)).finally(() => nc.close())
  }
  let places = 0
  async function place(maxMessages = 10_000) {
    const stream = `place-${++places}`
    const options = { url: 'NATS_URL', stream, subject: `${stream}.{aggregate}.{event}`, maxMessages }
    const way = { bridge: 'test', options, url: server.url, logger: testLogger() }
    const arrived = async (jsm: JetStreamManager) => {
      const { messages, first_seq } = (await jsm.streams.info(stream)).state
      const sequences = Array.from({ length: messages }, (_, n) => first_seq + n)
      const read = await Promise.all(sequences.map((seq) => jsm.streams.getMessage(stream, { seq })))
      return read.map((one) => ({ id: one?.header.get('Nats-Msg-Id') ?? '', body: Buffer.from(one?.data ?? []) }))
    }
    return {
      outlet: (await nats.out?.open(way)) as Outlet,
      stranger: (await nats.out?.open({ ...way, url: server.url.replace(password, 'another-word') })) as Outlet,
      openInlet: async () => (await nats.in?.open(way)) as Inlet,
      arrived: () => ask(arrived),
      makeRoom: async () => void (await ask((jsm) => jsm.streams.purge(stream, { keep: 5 }))),
    }
  }
  const stop = () => server.stop().finally(() => rmSync(dir, { recursive: true, force: true }))
  return { password, place, ask, kill: () => server.kill(), restart: () => server.restart(), stop }
}

testOutlet({ name: 'NATS', lacks: whyNoNats(), start })

const ifNats = whyNoNats() ? test.skip : test
ifNats.each(['limits', 'workqueue'] as const)('once and in order, by %s', async (retention) => {
  const { place, ask, kill, stop } = await start()
  const { outlet, openInlet } = await place()
  await ask((jsm) => jsm.streams.add({ name: 'place-1', subjects: ['place-1.loyalty.*'], retention }))
  const messages = Array.from({ length: 150 }, (_, n) => ({ ...messageOf('key', n), attributes: { subject: 'kéy' } }))
  for (const one of messages) expect(await outlet.send([one, one])).toEqual([undefined, undefined])
  expect(await outlet.send([messageOf('large', 0, 2 ** 20)])).toEqual([expect.any(MessageRefused)])
  const taken: unknown[] = []
  const receive = async (most: number, until: string) => {
    const inlet = await openInlet()
    const reading = inlet.receive(async (some) => {
      if (taken.length >= most) throw new Error('not now')
      taken.push(...some.map(({ body, headers }) => [readBody(body).n, headers['ce-subject']]))
    }, new AbortController().signal)
    await expect(reading.finally(inlet.close)).rejects.toThrow(until)
  }
  await receive(100, 'not now')
  const ended = receive(200, 'NATS')
  await eventually('all to be taken', () => taken.length >= 150)
  await Promise.all([kill(), ended])
  expect(taken).toEqual(messages.map((_, n) => [n, 'kéy']))
  await stop()
})

ifNats('has few bytes in hand, and many messages where they are small', async () => {
  const { place, stop } = await start()
  const { outlet, openInlet } = await place()
  const sizes = [...Array<number>(30).fill(900_000), ...Array<number>(150).fill(10)]
  const messages = sizes.map((size, n) => messageOf('key', n, size))
  for (const one of messages) expect(await outlet.send([one])).toEqual([undefined])
  const batches: { numbers: number[]; bytes: number }[] = []
  const stopping = new AbortController()
  const inlet = await openInlet()
  await inlet.receive(async (some) => {
    const bytes = some.reduce((sum, { body }) => sum + body.length, 0)
    batches.push({ numbers: some.map(({ body }) => readBody(body).n), bytes })
    if (batches.flatMap(({ numbers }) => numbers).length >= sizes.length) stopping.abort()
  }, stopping.signal)
  expect(batches.flatMap(({ numbers }) => numbers)).toEqual(sizes.map((_, n) => n))
  expect(Math.max(...batches.map(({ bytes }) => bytes))).toBeLessThanOrEqual(inHandBytes + 1_048_576)
  expect(Math.max(...batches.map(({ numbers }) => numbers.length))).toBeGreaterThan(50)
  await inlet.close()
  await stop()
})
