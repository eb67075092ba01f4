import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { eventually } from '@shopstream/local-servers'
import { pause } from '@shopstream/messaging'
import { type Inlet, inHandBytes, type Outlet, type Received } from '../target.ts'
import { messageOf, readBody, sendAll } from './conformance.ts'
import { startSlowLine } from './slow-line.ts'

/** A broker whose places an inlet is tested against. */
interface InletBroker {
  /** Of no test before; `remove` takes it away at the broker. */
  place(): Promise<{ outlet: Outlet; openInlet(through?: string): Promise<Inlet>; remove(): Promise<void> }>
  url: string
  kill(): Promise<void>
  restart(): Promise<void>
  stop(): Promise<void>
}

/** Receives until `take` has stopped it. */
export async function receive(
  opening: Promise<Inlet>,
  take: (message: Received[], stop: () => void) => void,
): Promise<void> {
  const inlet = await opening
  const stopping = new AbortController()
  const handOn = async (some: readonly Received[]) => take([...some], () => stopping.abort())
  await inlet.receive(handOn, stopping.signal).finally(inlet.close)
}

/** Tests of what `Inlet` promises, with messages of the target's outlet. `lacks`: what this machine lacks for it, in words. */
export function testInlet(options: { name: string; lacks?: string | undefined; start(): Promise<InletBroker> }): void {
  const { name, lacks, start } = options
  const ifThere = lacks ? describe.skip : describe
  ifThere(`the inlet from ${name}${lacks ? ` (skipped: it ${lacks})` : ''}`, () => {
    let broker: InletBroker
    beforeAll(async () => {
      broker = await start()
    }, 120_000)
    afterAll(() => broker?.stop())

    test.each(['inlet', 'outlet'])(
      'brings each once and in order, over two readers, where its %s was first',
      async (first) => {
        const { outlet, openInlet } = await broker.place()
        if (first === 'inlet') await receive(openInlet(), (_, stop) => stop())
        const messages = Array.from({ length: 150 }, (_, n) => ({
          ...messageOf('key', n),
          attributes: { subject: 'kéy' },
        }))
        for (const one of messages) await sendAll(outlet, [one])
        const taken: unknown[] = []
        const takeUpTo = (most: number) =>
          receive(openInlet(), (some) => {
            if (taken.length >= most) throw new Error('not now')
            taken.push(...some.map(({ body, headers }) => [readBody(body).n, headers['ce-subject']]))
          })
        await expect(takeUpTo(100)).rejects.toThrow('not now')
        const ended = expect(takeUpTo(200)).rejects.toThrow(name)
        await eventually('all to be taken', () => taken.length >= 150)
        await Promise.all([broker.kill(), ended])
        await broker.restart()
        expect(taken).toEqual(messages.map((_, n) => [n, 'kéy']))
        await outlet.close()
      },
    )

    test('has few bytes in hand, those of headers too, and many messages where they are small', async () => {
      const { outlet, openInlet } = await broker.place()
      const sizes = [
        ...Array<number>(20).fill(900_000),
        ...Array<number>(110).fill(120_000),
        ...Array<number>(150).fill(10),
      ]
      for (const [n, size] of sizes.entries()) {
        const inHeaders = size === 120_000 ? size / 2 : 1
        const attributes = { subject: 'x'.repeat(inHeaders) }
        await sendAll(outlet, [{ ...messageOf('key', n, size - inHeaders), attributes }])
      }
      const batches: number[][] = []
      await receive(openInlet(), (some, stop) => {
        batches.push(some.map(({ body }) => readBody(body).n))
        if (batches.flat().length >= sizes.length) stop()
      })
      expect(batches.flat()).toEqual(sizes.map((_, n) => n))
      const bytes = batches.map((numbers) => numbers.reduce((sum, n) => sum + (sizes[n] ?? 0), 0))
      expect(Math.max(...bytes)).toBeLessThanOrEqual(inHandBytes + 1_048_576)
      expect(Math.max(...batches.map(({ length }) => length))).toBeGreaterThan(50)
      await outlet.close()
    })

    test('makes its place again that somebody has removed, while its connection stays', () => removed(broker), 60_000)
    test('comes to an end of large ones over a slow line', () => slowed(broker), 90_000)
  })
}

/** Calls it again when it throws, as the core does, until so many were taken; returns their numbers. */
async function takeAll(inlet: Inlet, count: number): Promise<number[]> {
  const stopping = new AbortController()
  const taken: number[] = []
  const take = async (some: readonly Received[]) => {
    taken.push(...some.map(({ body }) => readBody(body).n))
    if (taken.length >= count) stopping.abort()
  }
  while (!stopping.signal.aborted) await inlet.receive(take, stopping.signal).catch(() => pause(50))
  return taken
}

async function removed(broker: InletBroker): Promise<void> {
  const { outlet, openInlet, remove } = await broker.place()
  const inlet = await openInlet()
  await sendAll(outlet, [messageOf('key', 1)])
  expect(await takeAll(inlet, 1)).toEqual([1])
  await remove()
  const again = takeAll(inlet, 1)
  await sendAll(outlet, [messageOf('key', 2)])
  expect(await again).toEqual([2])
  await inlet.close()
  await outlet.close()
}

async function slowed(broker: InletBroker): Promise<void> {
  const { outlet, openInlet } = await broker.place()
  for (let n = 0; n < 14; n += 1) await sendAll(outlet, [messageOf('key', n, 900_000)])
  const line = await startSlowLine(broker.url, 500) // for 25 s
  const inlet = await openInlet(line.url)
  expect(await takeAll(inlet, 14)).toEqual(Array.from({ length: 14 }, (_, n) => n))
  await inlet.close()
  line.stop()
  await outlet.close()
}
