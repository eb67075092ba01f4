import { afterEach, describe, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import fc from 'fast-check'
import { actOnLetters, type LetterAction, listLetters, showLetter } from './dead-letters.ts'
import { openTestShop, silent, stockEvent, type TestShop } from './test-shop.ts'

let shop: TestShop

const patience = { timeoutMs: 60_000 }
const sequencesOf = async (key: string) =>
  (await shop.effects()).filter((effect) => effect.key === key).map(({ sequence }) => Number(sequence))
const live = () => listLetters(shop.database.query, { states: ['dead', 'waiting', 'behind'] })
const dead = () => listLetters(shop.database.query, { states: ['dead'] })
const act = (action: LetterAction, ids: bigint[], reason?: string) =>
  actOnLetters(shop.database, action, ids, { actor: 'grace', ...(reason && { reason }) })

describe('decisions', () => {
  afterEach(() => shop.close())

  test('what is redriven is handled before what waits behind it; every attempt and decision stays known', async () => {
    let isBroken = true
    shop = await openTestShop({
      policy: { attempts: 3 },
      trouble: ({ key, sequence }) => {
        if (isBroken && key === 'a' && sequence === 1n) throw new Error('no shelf')
      },
    })
    shop.start()
    await shop.emit(stockEvent('a', 1n), stockEvent('a', 2n), stockEvent('b', 1n), stockEvent('a', 3n))
    const [letter] = await eventually('a dead one with two behind it', async () => {
      const found = await dead()
      return found[0]?.followers === 2 ? found : undefined
    })
    if (!letter) throw new Error('there is none')
    expect(letter).toMatchObject({ key: 'a', attempts: 3, type: 'StockLevelChanged', error: 'Error: no shelf' })
    expect(await sequencesOf('b')).toEqual([1])
    for (const filter of [{ key: 'b' }, { type: 'OrderPlaced' }, { error: 'another' }, { parkedBefore: new Date(0) }])
      expect(await listLetters(shop.database.query, filter)).toEqual([])
    expect(await act('retry', [letter.id])).toEqual([]) // only what waits is retried
    await expect(act('discard', [letter.id], ' ')).rejects.toThrow('needs a reason')

    await act('redrive', [letter.id], 'to see')
    await eventually('it to be dead again', async () => (await dead())[0]?.attempts === 3)
    expect(await sequencesOf('a')).toEqual([])
    isBroken = false
    await act('redrive', [letter.id], 'the shelf is back')
    await eventually('all of its key', async () => (await sequencesOf('a')).length === 3, patience)
    expect(await sequencesOf('a')).toEqual([1, 2, 3])
    expect(await live()).toEqual([])
    const told = await showLetter(shop.database.query, letter.id, silent)
    expect(told).toMatchObject({ state: 'handled', payload: { event: 'StockLevelChanged', data: { sku: 'a' } } })
    expect(told?.failures.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6])
    expect(told?.actions).toMatchObject([
      { action: 'redrive', actor: 'grace', reason: 'to see' },
      { action: 'redrive', actor: 'grace', reason: 'the shelf is back' },
    ])
  })

  test('a waiting message is retried at once, and a discarded one lets its key go on', async () => {
    let isBroken = true
    shop = await openTestShop({
      policy: { attempts: 50, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 },
      trouble: ({ sequence }) => {
        if (isBroken && sequence === 1n) throw new Error('no shelf')
      },
    })
    shop.start()
    await shop.emit(stockEvent('kept', 1n), stockEvent('given up', 1n), stockEvent('given up', 2n))
    const letters = await eventually('all parked', async () => {
      const found = await live()
      return found.length === 3 ? found : undefined
    })
    const idOf = (key: string) =>
      letters.filter((one) => one.key === key && one.state === 'waiting').map(({ id }) => id)
    await act('discard', idOf('given up'), 'nobody needs it')
    await eventually('what waited behind it', async () => (await sequencesOf('given up')).length === 1, patience)
    expect(await sequencesOf('given up')).toEqual([2])
    isBroken = false
    await act('retry', idOf('kept'))
    await eventually('the retried one', async () => (await sequencesOf('kept')).length === 1, patience)
    expect(await live()).toEqual([])
  })
})

/** What goes wrong with an event: how often its handler fails before it is mended, for ever if never. */
const failures = fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.constantFrom(1, 2, 4, 1_000)), {
  minLength: 30,
  maxLength: 30,
})
const step = fc.constantFrom('emit', 'emit', 'emit', 'redrive', 'retry', 'discard', 'replace an instance')

test('whatever fails, is retried, redriven, discarded or dies: each key has its effects in order, none twice, none missing but what was discarded', async () => {
  await fc.assert(
    fc.asyncProperty(failures, fc.array(step, { minLength: 15, maxLength: 25 }), async (fails, steps) => {
      const left = new Map<string, number>()
      let isMended = false
      shop = await openTestShop({
        policy: { attempts: 3, backoffMs: 5, maxBackoffMs: 20 },
        trouble: ({ key, sequence }) => {
          const name = `${key}/${sequence}`
          const count = left.get(name) ?? fails[(Number(sequence) * 7 + key.length * 13) % fails.length] ?? 0
          if (isMended || count === 0) return
          left.set(name, count - 1)
          throw new Error(`${name} fails`)
        },
      })
      const keys = ['a', 'bb', 'ccc', 'dddd']
      const emitted = new Map(keys.map((key) => [key, 0n]))
      const discarded: string[] = []
      const instances = [shop.start(), shop.start()]
      try {
        for (const [n, what] of steps.entries()) {
          if (what === 'emit') {
            const events = keys.map((key) => {
              const sequence = (emitted.get(key) ?? 0n) + 1n
              emitted.set(key, sequence)
              return stockEvent(key, sequence)
            })
            await shop.emit(...events)
          } else if (what === 'replace an instance') {
            instances.push(shop.start())
            await instances[n % 2]?.stop()
          } else {
            const letters = await listLetters(shop.database.query, { states: ['dead', 'waiting'] })
            const chosen = letters.filter((_, place) => place % 2 === n % 2)
            const done = new Set(
              await act(
                what as LetterAction,
                chosen.map(({ id }) => id),
                'by chance',
              ),
            )
            if (what === 'discard') {
              for (const { id } of chosen.filter((one) => done.has(one.id))) {
                const { headers } = (await showLetter(shop.database.query, id, silent)) ?? {}
                discarded.push(`${headers?.ce_subject}/${headers?.ce_sequence}`)
              }
            }
          }
        }
        isMended = true
        const due = keys.flatMap((key) => Array.from({ length: Number(emitted.get(key)) }, (_, i) => `${key}/${i + 1}`))
        await eventually(
          'everything to have ended',
          async () => {
            await act(
              'redrive',
              (await dead()).map(({ id }) => id),
            )
            const seen = (await shop.effects()).length + discarded.length
            return seen >= due.length && (await live()).length === 0
          },
          patience,
        )
        const { rows } = await sql<{ name: string }>`
            select key || '/' || sequence as name from effect order by key, id`.execute(shop.database.query)
        const expected = due.filter((name) => !discarded.includes(name))
        expect(rows.map(({ name }) => name)).toEqual(expected)
      } finally {
        await shop.close()
      }
    }),
    { numRuns: 4, endOnFailure: true },
  )
  shop = await openTestShop() // for afterEach, which closes one
}, 240_000)
