import { expect, test } from '@jest/globals'
import { budgetPlot, ratioPlot } from './plots.ts'
import { compared } from './results.ts'

const one = (name: string, goal: number) =>
  compared({ name, unit: 'orders/s', goal, ours: [10], reference: { name: 'plain <pg>', figures: [5] } })

test('a ratio that misses its goal is drawn in another colour, and names are no markup', () => {
  const drawn = ratioPlot([one('near', 2), one('far', 3)])
  const colours = [...drawn.matchAll(/<rect x.*fill="(#\w+)"/g)].map(([, colour]) => colour)
  expect(new Set(colours).size).toBe(2)
  expect(drawn).toContain('2.00 × plain &lt;pg>')
  expect(drawn).not.toContain('NaN')
})

test('the parts of an order are drawn beside each other, once for each arm', () => {
  const cost = one('article-cpu', 2)
  cost.ours.parts = { order: 1, Postgres: 3 }
  Object.assign(cost.reference ?? {}, { parts: { celery: 8 } })
  const drawn = budgetPlot([cost, cost])
  const bars = [...drawn.matchAll(/<rect x="([\d.]+)" y="\d+" width="([\d.]+)"/g)].map(([, x, wide]) => [x, wide])
  expect(bars).toEqual([
    ['190.0', '168.8'],
    ['358.8', '56.3'],
    ['190.0', '450.0'],
  ])
  expect(drawn).toContain('4.0 ms')
})
