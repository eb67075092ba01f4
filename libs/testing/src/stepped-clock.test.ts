import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from '@jest/globals'
import { eventually } from '@shopstream/local-servers'
import { createSteppedClock } from './stepped-clock.ts'

const hour = 3_600_000

test("a child's clock is stepped an hour ahead, an hour back and right again while it runs; its timers go on", async () => {
  const dir = mkdtempSync(join(tmpdir(), 'shopstream-clock-'))
  const clock = createSteppedClock(join(dir, 'clock'))
  const script = `setInterval(() => console.log(JSON.stringify({
    now: [Date.now(), new Date().getTime(), Date.parse(Date())], fixed: new Date(5).getTime(), parsed: Date.UTC(1970, 0, 2),
    isDate: new Date() instanceof Date && new Date().constructor === Date, counting: performance.now(),
  })), 20)`
  const child = spawn(process.execPath, [...clock.nodeArgs, '-e', script], {
    env: { ...process.env, ...clock.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const said: { now: number[]; fixed: number; parsed: number; isDate: boolean; counting: number }[] = []
  createInterface({ input: child.stdout }).on('line', (line) => said.push(JSON.parse(line)))
  const isOffBy = (offset: number) => () =>
    said.at(-1)?.now.every((time) => Math.abs(time - Date.now() - offset) < hour / 4)
  try {
    await eventually('the right time', isOffBy(0))
    for (const offset of [hour, -hour, 0]) {
      clock.step(offset)
      await eventually(`a clock that is off by ${offset} ms`, isOffBy(offset))
    }
    expect(said.every(({ fixed, parsed, isDate }) => fixed === 5 && parsed === 86_400_000 && isDate)).toBe(true)
    const counts = said.map(({ counting }) => counting)
    expect(counts).toEqual(counts.toSorted((a, b) => a - b))
    expect(Math.max(...counts)).toBeLessThan(hour)
  } finally {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
})
