import { rmSync } from 'node:fs'
import { expect, test } from '@jest/globals'
import { repository, runCommand, temporaryFolder } from '@shopstream/testing'
import { faultKinds } from '../chaos/faults.ts'

const chaos = (...args: string[]) =>
  runCommand(process.execPath, ['tools/src/commands/chaos.ts', ...args], { cwd: repository, limitMs: 540_000 })

// Its schedule has every kind of fault within 36 s.
const seed = '1180'

test('faults of every kind: nothing lost, nothing twice, and every answer stays true', async () => {
  const folder = temporaryFolder('chaos-test')
  const output = await chaos('--seed', seed, '--minutes', '0.6', '--customers', '4', '--folder', folder) // else its logs stay there
  const counts = [...(/^faults +(.*)$/m.exec(output)?.[1] ?? '').matchAll(/([a-z-]+) (\d+)/g)]
  expect(counts.map(([, kind]) => kind)).toEqual(faultKinds.map(({ kind }) => kind))
  // A machine that is busy may not manage each of them in that time.
  expect(counts.filter(([, , count]) => Number(count) > 0).length).toBeGreaterThan(faultKinds.length / 2)
  expect(Number(/order: done (\d+)/.exec(output)?.[1])).toBeGreaterThan(20)
  expect(Number(/^verified +(\d+) rows$/m.exec(output)?.[1])).toBeGreaterThan(100)
  expect(output).toContain('Nothing was lost, nothing happened twice, and every answer stayed true.')
  rmSync(folder, { recursive: true })
}, 600_000)

test('the kinds of faults, the schedule of a seed, and words for what makes no sense', async () => {
  const listed = await chaos('--list', '--seed', seed, '--faults', 'cut,replay')
  expect(listed).toMatch(/^ +\d+\.\d s {2}replay +(order|inventory|notification) +\d+\.\d s$/m)
  expect(listed).not.toContain('kill-service')
  await Promise.all([
    expect(chaos('--faults', 'flood')).rejects.toThrow(/code 2:\nthere is no fault flood: --list shows/),
    expect(chaos('--minutes', '0')).rejects.toThrow(/code 2:\n--minutes takes a number/),
  ])
})
