import { expect, test } from '@jest/globals'
import { gather } from './gather.ts'

/** Work whose runs end when they are told to. */
function held() {
  const runs: (PromiseWithResolvers<void> & { items: number[] })[] = []
  const begun: (() => void)[] = []
  const work = async (items: number[]) => {
    const run = { items, ...Promise.withResolvers<void>() }
    runs.push(run)
    begun.shift()?.()
    await run.promise
    return items.map((item) => item * 10)
  }
  return { runs, work, next: () => new Promise<void>((resolve) => begun.push(resolve)) }
}

test('what comes while a run is at work shares the next ones, and each gets its own result', async () => {
  const { runs, work, next } = held()
  const together = gather(2, work, 60_000)
  let begins = next()
  const first = together(1)
  await begins
  const others = [2, 3, 4].map(together)
  for (const run of [0, 1, 2]) {
    begins = next()
    runs[run]?.resolve()
    if (run < 2) await begins
  }
  expect(await Promise.all([first, ...others])).toEqual([10, 20, 30, 40])
  expect(runs.map(({ items }) => items)).toEqual([[1], [2, 3], [4]])
})

test('a run that fails fails those that are in it alone', async () => {
  const { runs, work, next } = held()
  const together = gather(10, work, 60_000)
  let begins = next()
  const [one, two] = [1, 2].map(together)
  await begins
  begins = next()
  const three = together(3)
  runs[0]?.reject(new Error('broken'))
  for (const failed of [one, two]) await expect(failed).rejects.toThrow('broken')
  await begins
  runs[1]?.resolve()
  expect(await three).toBe(30)
})

test('a run that hangs holds up nobody who comes later', async () => {
  const { runs, work, next } = held()
  const together = gather(10, work, 10)
  let begins = next()
  const hanging = together(1)
  await begins
  begins = next()
  const waiting = together(2)
  await begins
  runs[1]?.resolve()
  expect(await waiting).toBe(20)
  begins = next()
  const later = together(3)
  await begins
  runs[2]?.resolve()
  expect(await later).toBe(30)
  runs[0]?.resolve()
  expect(await hanging).toBe(10)
})
