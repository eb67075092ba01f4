import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from '@jest/globals'

test('the young generation that a start has grown is given back', async () => {
  const script = `
    import { getHeapSpaceStatistics } from 'node:v8'
    import { giveBackStartMemory } from ${JSON.stringify(new URL('./start-memory.ts', import.meta.url).href)}
    const young = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space').space_size
    for (let held = []; young() < 16_000_000; ) held = [...held.slice(-100_000), ...Array.from({ length: 1_000 }, () => [{}])]
    const grown = young()
    const ticking = setInterval(() => {}, 1_000)
    await giveBackStartMemory(0)
    clearInterval(ticking)
    console.log(JSON.stringify([grown, young()]))`
  const flags = ['--max-semi-space-size=16', '--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, flags)
  const [grown, left] = JSON.parse(stdout) as [number, number]
  expect(grown).toBeGreaterThanOrEqual(16_000_000)
  expect(left).toBeLessThan(grown / 4)
})
