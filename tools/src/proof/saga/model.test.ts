import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { check, createWorld, explore, isAtRest, type Met, type Step, stepsOf, type World } from './model.ts'
import { inventory, order } from './services.ts'

type Cells = Record<string, Record<string, unknown>>
const tables: Record<string, Cells> = { order: order.lifeCycle, inventory: inventory.lifeCycle }
const cells = Object.entries(tables).flatMap(([service, table]) =>
  Object.entries(table).flatMap(([state, row]) => Object.keys(row).map((input) => ({ service, state, input }))),
)
const cellOf = ({ service, state, input }: (typeof cells)[number]) => tables[service]?.[state]?.[input]
const nameOf = ({ service, state, input }: (typeof cells)[number]) => `${service} ${state} ${input}`

const ordering = (id: string, ...skus: string[]) => ({ id, lines: skus.map((sku) => ({ sku, quantity: 1 })) })

/** Two orders for one piece: enough to meet every cell. */
const twoForOne = () => createWorld({ mug: 1 }, [ordering('a', 'mug'), ordering('b', 'mug')])

/** All that must hold of the two tables; throws. */
function prove(worlds: (() => World)[]): { worlds: number; atRest: number } {
  const met: Met = new Set()
  const found = worlds.map((world) => explore(world(), met))
  // What clients may not do is tried as well, and refused.
  const possible = cells.filter((cell) => cellOf(cell) !== 'impossible').map(nameOf)
  const missed = possible.filter((cell) => !met.has(cell))
  if (missed.length > 0) throw new Error(`never met: ${missed.join(', ')}`)
  return {
    worlds: found.reduce((sum, { worlds }) => sum + worlds, 0),
    atRest: found.reduce((sum, { atRest }) => sum + atRest, 0),
  }
}

describe('every interleaving of clients, sweeper, deliveries and repeated deliveries', () => {
  test('of two orders for the last piece', () => {
    expect(prove([twoForOne])).toEqual({ worlds: 288, atRest: 47 })
  })

  test('of three orders over two products, of which each can be had once', () => {
    const threeForTwo = () =>
      createWorld({ mug: 1, tea: 1 }, [ordering('a', 'mug', 'tea'), ordering('b', 'tea'), ordering('c', 'mug')])
    expect(prove([threeForTwo]).worlds).toBeGreaterThan(4_000)
  })

  test('of two orders while stock comes and goes and the product is taken off sale', () => {
    const adjustments = [{ sku: 'mug', delta: 1 }, { sku: 'mug', delta: -1 }, { sku: 'mug', retire: true } as const]
    const shifting = () => createWorld({ mug: 1 }, [ordering('a', 'mug'), ordering('b', 'mug')], adjustments)
    expect(prove([shifting]).worlds).toBeGreaterThan(2_000)
  })
})

test('many orders of any size, in any order of what happens, come to rest in agreement', () => {
  const skus = ['mug', 'tea', 'cup']
  const line = fc.record({ sku: fc.constantFrom(...skus, 'no-such'), quantity: fc.integer({ min: 1, max: 3 }) })
  const lines = fc.uniqueArray(line, { selector: ({ sku }) => sku, minLength: 1 })
  const choices = fc.array(fc.nat(), { minLength: 20, maxLength: 150 })
  fc.assert(
    fc.property(fc.array(lines, { minLength: 3, maxLength: 10 }), choices, (demand, schedule) => {
      const met: Met = new Set()
      let world = createWorld(
        { mug: 5, tea: 3, cup: 1 },
        demand.map((lines, number) => ({ id: `order ${number}`, lines })),
        [
          { sku: 'cup', delta: 2 },
          { sku: 'mug', delta: -3 },
        ],
      )
      const take = (steps: Step[], choice: number) => {
        world = steps[choice % steps.length]?.take() ?? world
        check(world, met)
      }
      for (const choice of schedule) take(stepsOf(world, met), choice)
      while (!isAtRest(world)) {
        const deliveries = stepsOf(world, met).filter(({ delivers }) => delivers)
        take(deliveries, schedule[deliveries.length] ?? 0)
      }
    }),
    { numRuns: 200 },
  )
})

describe('a table with any other cell is found out', () => {
  const values: Record<string, unknown[]> = {
    order: [...Object.keys(order.announces), 'already', 'impossible'],
    inventory: [...Object.keys(inventory.entering), 'already', 'impossible'],
  }
  // What a client may ask is a wish, which the tests of the API hold; what follows of events and time is not.
  const isWish = (input: string) => ['place', 'cancel', 'ship', 'deliver'].includes(input)
  const wrong = cells
    .filter(({ input }) => !isWish(input))
    .flatMap((cell) =>
      (values[cell.service] as unknown[]).filter((value) => value !== cellOf(cell)).map((value) => ({ cell, value })),
    )

  test.each(wrong.map(({ cell, value }) => [nameOf(cell), String(value), cell, value] as const))(
    '%s: %s',
    (_, __, cell, value) => {
      const row = tables[cell.service]?.[cell.state] as Record<string, unknown>
      const right = row[cell.input]
      row[cell.input] = value
      try {
        expect(() => prove([twoForOne])).toThrow()
      } finally {
        row[cell.input] = right
      }
    },
  )
})
