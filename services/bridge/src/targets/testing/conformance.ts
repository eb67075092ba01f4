import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { newEventId } from '@shopstream/events'
import { type BrokerOptions, eventually, freePort, type LocalBroker, temporaryFolder } from '@shopstream/local-servers'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { testLogger } from '@shopstream/testing'
import type { Inlet, Outlet, Sendable, Target } from '../target.ts'

/** A message that arrived. */
export interface Arrived {
  id: string
  body: Buffer
}

/** A place that outlets lead to, of its own for each test. */
export interface ConformingPlace {
  /** To the place, as its rows have it. */
  outlet: Outlet
  /** To the same, with a password that is wrong. */
  stranger: Outlet
  /** All that the place has got, the oldest first; nothing is taken away. */
  arrived(): Promise<Arrived[]>
}

/** A broker that a target is tested against. */
export interface ConformingBroker {
  /** Of no test before. With `maxLength`: it takes so many messages, and few more. */
  place(maxLength?: number): Promise<ConformingPlace & { makeRoom(): Promise<void> }>
  /** What no message of this broker may say. */
  password: string
  kill(): Promise<void>
  restart(): Promise<void>
  stop(): Promise<void>
}

/** The nth message of a key; its body says both. */
export function messageOf(key: string, n: number, bytes = 0): Sendable {
  const id = newEventId()
  const data = { id, key, n, ünïcode: '☃', filler: 'x'.repeat(bytes) }
  return {
    id,
    type: 'PointsAwarded',
    key,
    topic: 'shop.loyalty.v1',
    contentType: 'application/cloudevents+json',
    body: Buffer.from(JSON.stringify(data)),
  }
}

/** What {@link messageOf} made, from a body. */
export const readBody = (body: Buffer) => JSON.parse(body.toString()) as { id: string; key: string; n: number }

/** Sends as the event core does: what is not taken now is sent again, until all is there. Returns how often it was not. */
export async function sendAll(outlet: Outlet, messages: readonly Sendable[]): Promise<number> {
  let left = messages
  let failures = 0
  await eventually('all messages to be taken', async () => {
    const results = await outlet.send(left).catch((error: Error) => left.map(() => error))
    failures += results.filter((one) => one !== undefined).length
    left = left.filter((_, i) => results[i] !== undefined)
    return left.length === 0
  })
  return failures
}

/** Messages of so many keys: of each wave one of each key, as the event core sends them. */
const wavesOf = (keys: number, waves: number): Sendable[][] =>
  Array.from({ length: waves }, (_, n) => Array.from({ length: keys }, (_, key) => messageOf(`key-${key}`, n)))

/** Of each key, the numbers of its messages in the order in which the first of each arrived. */
function orderOf(arrived: readonly Arrived[]): Map<string, number[]> {
  const firsts = new Map(arrived.toReversed().map((one) => [one.id, one]))
  const order = new Map<string, number[]>()
  for (const one of arrived) {
    if (firsts.get(one.id) !== one) continue
    const { key, n } = readBody(one.body)
    order.set(key, [...(order.get(key) ?? []), n])
  }
  return order
}

async function all<T>(some: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const one of some) found.push(one)
  return found
}

/** Starts a server for a suite; `stop` takes away what it kept, too. */
export async function startServer(name: string, startIt: (options: BrokerOptions) => Promise<LocalBroker>) {
  const dir = temporaryFolder(name)
  const password = 'a-secret-word'
  const server = await startIt({ dir, port: await freePort(), password })
  const stop = () => server.stop().finally(() => rmSync(dir, { recursive: true, force: true }))
  return { ...server, password, stop }
}

/** The ways of a target to a place of a server, and one with a password that is wrong. */
export async function waysOf(
  { out, in: into }: Target,
  { url, password }: { url: string; password: string },
  options: Readonly<Record<string, unknown>>,
) {
  const way = { bridge: 'test', options: options as never, url, logger: testLogger() }
  return {
    outlet: (await out?.open(way)) as Outlet,
    stranger: (await out?.open({ ...way, url: url.replace(password, 'another-word') })) as Outlet,
    openInlet: async (through = url) => (await into?.open({ ...way, url: through })) as Inlet,
  }
}

/** Tests of what `Outlet` promises, the same for each kind of broker. `lacks`: what this machine lacks for it, in words. */
export function testOutlet(options: {
  name: string
  lacks?: string | undefined
  start(): Promise<ConformingBroker>
}): void {
  const { name, lacks, start } = options
  if (lacks) {
    test.skip(`the outlet to ${name} (skipped: it ${lacks})`, () => {})
    return
  }
  describe(`the outlet to ${name}`, () => {
    let broker: ConformingBroker
    beforeAll(async () => {
      broker = await start()
    }, 120_000)
    afterAll(() => broker?.stop())
    testDelivery(() => broker)

    test('says that a password is wrong, and not which', async () => {
      const { stranger } = await broker.place()
      const error = await stranger.send([messageOf('key', 0)]).catch((thrown: Error) => thrown)
      expect(error).toBeInstanceOf(Error)
      expect((error as Error).message).toMatch(/refuses user or password/)
      expect((error as Error).message).not.toMatch(new RegExp(`${broker.password}|://`))
      await stranger.close()
    })

    test('refuses alone what it cannot bring as it is', async () => {
      const { outlet } = await broker.place()
      // The last is more than NATS takes with its other headers, and less than RabbitMQ's client can encode.
      const odd = [' a', 'a\nb', 'x'.repeat(65_400)].map((subject, n) => ({
        ...messageOf(`odd-${n}`, 0),
        attributes: { subject },
      }))
      const results = await outlet.send([...odd, messageOf('large', 0, 2 ** 20), messageOf('key', 0)])
      expect(results.filter((one) => one && !(one instanceof MessageRefused))).toEqual([])
      expect(results.at(-1)).toBeUndefined()
      await outlet.close()
    })

    test('tells what the place holds, where it can be asked', async () => {
      const { outlet } = await broker.place()
      const messages = Array.from({ length: 600 }, (_, n) => messageOf(`key-${n}`, 0))
      await sendAll(outlet, messages)
      if (outlet.held) expect(await all(outlet.held())).toEqual(messages.map(({ id }) => id))
      await outlet.close()
    })

    test('sends nothing once it is closed', async () => {
      const { outlet, arrived } = await broker.place()
      await sendAll(outlet, [messageOf('key', 0)])
      await outlet.close()
      await expect(outlet.send([messageOf('key', 1)])).rejects.toThrow()
      expect(await arrived()).toHaveLength(1)
    })
  })
}

/** That messages arrive, whatever becomes of the broker. */
function testDelivery(broker: () => ConformingBroker): void {
  test('brings each message as it is, those of a key in their order', async () => {
    const { outlet, arrived } = await broker().place()
    const waves = wavesOf(40, 50)
    for (const wave of waves) expect(await outlet.send(wave)).toEqual(wave.map(() => undefined))
    const got = await arrived()
    const sent = new Map(waves.flat().map(({ id, body }) => [id, body.toString()]))
    expect(new Map(got.map(({ id, body }) => [id, body.toString()]))).toEqual(sent)
    expect(got).toHaveLength(2_000)
    const inOrder = Array.from({ length: 50 }, (_, n) => n)
    expect([...orderOf(got).values()]).toEqual(Array(40).fill(inOrder))
    await outlet.close()
  })

  test('says of which messages a full place has none, and takes them once it has room', async () => {
    const { outlet, arrived, makeRoom } = await broker().place(10)
    const messages = Array.from({ length: 40 }, (_, n) => messageOf(`key-${n}`, 0))
    const results: (Error | undefined)[] = []
    // A broker may notice some messages later that a place is full, and not before the next ones are sent.
    for (let n = 0; n < messages.length; n += 4) results.push(...(await outlet.send(messages.slice(n, n + 4))))
    const taken = messages.filter((_, i) => results[i] === undefined).map(({ id }) => id)
    const there = (await arrived()).map(({ id }) => id)
    expect(there).toEqual(taken)
    expect(there.length).toBeGreaterThanOrEqual(10)
    const errors = results.filter((one) => one !== undefined)
    expect(errors.length).toBeGreaterThan(0)
    for (const error of errors) {
      expect(error).not.toBeInstanceOf(MessageRefused)
      expect(error?.message).toMatch(/full/)
    }
    const left = messages.filter((_, i) => results[i] !== undefined)
    const again = await outlet.send(left)
    expect(again.filter((one) => one !== undefined).length).toBeGreaterThan(0)
    let rest = left
    await eventually('all to be taken, as there is room again and again', async () => {
      await makeRoom()
      const sent = await outlet.send(rest)
      rest = rest.filter((_, i) => sent[i] !== undefined)
      return rest.length === 0
    })
    await outlet.close()
  })

  test('throws while the broker is away, and loses nothing by its kill', async () => {
    const { outlet, arrived } = await broker().place()
    const waves = wavesOf(20, 30)
    let failures = 0
    for (const [n, wave] of waves.entries()) {
      if (n === 10) {
        const sending = sendAll(outlet, wave)
        await broker().kill()
        await expect(outlet.send(wave)).rejects.toThrow()
        await broker().restart()
        failures += await sending
      } else failures += await sendAll(outlet, wave)
    }
    expect(failures).toBeGreaterThan(0)
    const inOrder = Array.from({ length: 30 }, (_, n) => n)
    expect([...orderOf(await arrived()).values()]).toEqual(Array(20).fill(inOrder))
    await outlet.close()
  }, 240_000)
}
