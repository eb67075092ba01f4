import { expect, test } from '@jest/globals'
import { compared, fallen, spreadOf, table } from './results.ts'

const sides = { ours: [9, 10, 11], reference: { name: 'the other', figures: [4, 5, 6] } }

test('a ratio is of medians, and more is better also where less of the figure is', () => {
  const [speed, time] = [
    compared({ ...sides, name: 'speed', unit: 'orders/s', goal: 3 }),
    compared({ ...sides, name: 'time', unit: 'ms', goal: 0.5, lessIsBetter: true }),
  ]
  expect(speed).toMatchObject({ ours: { min: 9, median: 10, max: 11 }, reference: { median: 5 }, ratio: 2 })
  expect(time?.ratio).toBe(0.5)
  const lines = table([speed, time, { name: 'idle', unit: 'MB', ours: spreadOf([900]), goal: 850 }] as never).split(
    '\n',
  )
  expect(lines.map((line) => line.split(/\s{2,}/))).toEqual([
    ['name', 'unit', 'ours', 'reference', 'ratio', 'goal'],
    ['speed', 'orders/s', '10.0 (9.00-11.0)', '5.00 (4.00-6.00) the other', '2.00', '3: not held'],
    ['time', 'ms', '10.0 (9.00-11.0)', '5.00 (4.00-6.00) the other', '0.50', '0.5: held'],
    ['idle', 'MB', '900 (900-900)', '-', '-', '850: not held'],
  ])
})

test('a ratio has fallen once it is below the former by more than both runs rounds were apart', () => {
  const run = (ours: number[]) => [compared({ ...sides, ours, name: 'speed', unit: 'orders/s', goal: 3 })]
  expect(fallen(run([9, 10, 11]), run([8, 9, 10]))).toEqual([])
  expect(fallen(run([9, 10, 11]), run([4.9, 5, 5.1]))).toEqual([expect.stringMatching(/^speed: 1\.00, was 2\.00/)])
  expect(fallen([], run([1, 1, 1]))).toEqual([])
})
