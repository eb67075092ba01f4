import { afterEach, describe, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { deadLetterTopic, encode, topicOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { collect, openTestShop, sequencesByKey, stockEvents, type TestShop, upTo } from '../testing/shop.ts'
import { stockEvent } from '../testing/stock.ts'
import {
  actOnLetters,
  type Letter,
  type LetterAction,
  type LetterFilter,
  type LetterState,
  letterStates,
  listLetters,
  planFor,
  showLetter,
} from './dead-letters.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

const by = { actor: 'ada', reason: 'the shelf was moved' }
const all = (filter: LetterFilter = {}, limit: number | null = null) => listLetters(shop.database.query, filter, limit)
const idsOf = (letters: { id: bigint }[]) => letters.map(({ id }) => id)
const act = (action: LetterAction, ids: bigint[]) => actOnLetters(shop.database, action, ids, by)
const effects = async () => sequencesByKey(await shop.effects())

/** Waits until the letters, in the order in which they were parked, are in these states; returns them. */
async function statesAre<const S extends LetterState[]>(...states: S): Promise<{ [N in keyof S]: Letter }> {
  const found = await eventually(`letters that are ${states.join(', ')}`, async () => {
    const letters = (await all()).toSorted((a, b) => Number(a.id - b.id))
    return letters.map(({ state }) => state).join() === states.join() && letters
  })
  return found as { [N in keyof S]: Letter }
}

/** A row as the parking lot holds it, without a message behind it. */
async function plant(row: {
  key: string | null
  state: 'waiting' | 'dead'
  error?: string
  next?: string
  offset: number
}) {
  const { rows } = await sql<{ id: bigint }>`
    insert into parked_message (topic, partition, "offset", key, headers, state, blocks, attempts, error, next_attempt_at)
    values (${topic.name}, 0, ${row.offset}, ${row.key}, '{"ce_type": "StockLevelChanged"}', ${row.state}, ${row.key !== null}, 1,
      ${row.error ?? 'Error: no'}, ${row.next ?? null}) returning id`.execute(shop.database.query)
  return rows[0]?.id as bigint
}

test('another message at the place of a parked one, whose topic was made anew, is parked beside it; the same one is not', async () => {
  shop = await openTestShop({
    policy: { attempts: 1 },
    trouble: ({ key }) => {
      if (key === 'sku') throw new RangeError('no')
    },
  })
  const first = await shop.start()
  await shop.emit(stockEvent('sku', 1n))
  const [dead] = await statesAre('dead')
  await first.stop()

  await shop.deleteTopic(topic.name)
  await shop.deploy()
  await shop.emit(stockEvent('sku', 2n))
  const second = await shop.start()
  const [, other] = await statesAre('dead', 'behind')
  expect(other).toMatchObject({ topic: dead.topic, partition: dead.partition, offset: dead.offset, key: 'sku' })
  expect(other.eventId).not.toBe(dead.eventId)
  await second.stop()

  await sql`delete from inbox`.execute(shop.database.query) // as when a week has left its window
  await shop.bus.rewind('shop', [topic.name])
  await shop.emit(stockEvent('behind', 1n))
  await shop.start()
  await eventually('the group to have passed it again', async () => (await effects()).behind?.length === 1)
  expect(idsOf(await all())).toEqual(idsOf([dead, other]))
  expect(await act('redrive', [dead.id])).toEqual([dead.id])
  const copies = collect(shop.bus, deadLetterTopic('shop').name)
  await eventually('a copy of each death', async () => copies.messages.length === 2)
  await copies.close()
  expect(copies.messages.map(({ headers }) => String(headers.dlq_offset))).toEqual(['0', '0'])
}, 90_000)

describe('what a letter tells', () => {
  test('every attempt with its error, its headers and bytes, and who did what about it, when and why', async () => {
    let word = 'first'
    shop = await openTestShop({
      policy: { attempts: 2 },
      trouble: () => {
        if (word !== '') throw new RangeError(word)
      },
    })
    await shop.start()
    await shop.emit(...stockEvents('sku', 1, 2))
    const [dead, behind] = await statesAre('dead', 'behind')
    expect(dead).toMatchObject({ key: 'sku', type: 'StockLevelChanged', attempts: 2, followers: 1, behindDead: null })
    expect(behind).toMatchObject({ attempts: 0, followers: 0, behindDead: dead.id, nextAttemptAt: null })
    word = 'second'
    expect(await act('redrive', [dead.id])).toEqual([dead.id])
    await eventually(
      'it to be dead again',
      async () => (await all({ ids: [dead.id] }))[0]?.attempts === 2 && (await statesAre('dead', 'behind')),
    )
    word = ''
    expect(await act('redrive', [dead.id])).toEqual([dead.id])
    await statesAre('handled', 'handled')
    expect(await effects()).toEqual({ sku: [1, 2] })

    const letter = await showLetter(shop.database.query, dead.id)
    expect(letter).toMatchObject({
      state: 'handled',
      endedAt: expect.any(Date),
      headers: { ce_type: 'StockLevelChanged', ce_sequence: '1' },
      bytes: encode('StockLevelChanged', stockEvent('sku', 1n).data),
      failures: ['first', 'first', 'second', 'second'].map((text, n) => ({
        number: n + 1,
        at: expect.any(Date),
        error: expect.stringMatching(`^RangeError: ${text}\n +at .*dead-letters.test.ts`),
      })),
      actions: [
        { action: 'redrive', ...by, at: expect.any(Date) },
        { action: 'redrive', ...by, at: expect.any(Date) },
      ],
    })
    expect(await showLetter(shop.database.query, 999_999n)).toBeUndefined()
  })

  test('is found by topic, type, key, part of its error, age and state, all of which have to hold', async () => {
    shop = await openTestShop()
    const dead = await plant({ key: 'a', state: 'dead', error: 'TypeError: Shelf is gone', offset: 1 })
    const behind = await plant({ key: 'a', state: 'waiting', offset: 2 })
    const waiting = await plant({ key: 'b', state: 'waiting', next: '2999-01-01', offset: 3 })
    await sql`update parked_message set parked_at = now() - interval '1 hour' where id = ${waiting}`.execute(
      shop.database.query,
    )
    const cases: [LetterFilter, bigint[]][] = [
      [{}, [dead, behind, waiting]],
      [{ states: letterStates }, [dead, behind, waiting]],
      [{ states: ['dead'] }, [dead]],
      [{ states: ['behind', 'waiting'] }, [behind, waiting]],
      [{ states: ['handled', 'discarded'] }, []],
      [{ topic: topic.name }, [dead, behind, waiting]],
      [{ topic: 'shop.order.v1' }, []],
      [{ bridge: 'mirror' }, []],
      [{ type: 'StockLevelChanged', key: 'b' }, [waiting]],
      [{ type: 'OrderPlaced' }, []],
      [{ key: 'a' }, [dead, behind]],
      [{ error: 'shelf IS' }, [dead]],
      [{ error: '%' }, []],
      [{ parkedBefore: new Date(Date.now() - 60_000) }, [waiting]],
      [{ parkedAfter: new Date(Date.now() - 60_000) }, [dead, behind]],
      [{ ids: [behind, waiting], states: ['behind'] }, [behind]],
    ]
    for (const [filter, expected] of cases) expect([filter, idsOf(await all(filter))]).toEqual([filter, expected])
    expect(idsOf(await all({}, 2))).toEqual([dead, behind])
    await sql`update parked_message set topic = topic || '@mirror' where id = ${waiting}`.execute(shop.database.query)
    for (const filter of [{ bridge: 'mirror' }, { topic: `${topic.name}@mirror` }])
      expect([filter, idsOf(await all(filter))]).toEqual([filter, [waiting]])
    expect(idsOf(await all({ topic: topic.name }))).toEqual([dead, behind, waiting])
  })
})

describe('what people do', () => {
  test('is kept in the same transaction, for ever, and only for those that it applied to', async () => {
    shop = await openTestShop()
    const dead = await plant({ key: 'a', state: 'dead', offset: 1 })
    const waiting = await plant({ key: 'b', state: 'waiting', next: '2999-01-01', offset: 2 })
    expect(await act('redrive', [waiting, 999n])).toEqual([])
    expect(await act('retry', [dead])).toEqual([])
    await expect(actOnLetters(shop.database, 'discard', [dead], { actor: 'ada', reason: ' ' })).rejects.toThrow(
      'reason',
    )
    // Half of it fails: nothing has happened.
    await sql`alter table parked_action add constraint no check (actor <> 'eve')`.execute(shop.database.query)
    await expect(actOnLetters(shop.database, 'redrive', [dead], { actor: 'eve' })).rejects.toThrow('no')
    expect((await all()).map(({ state }) => state)).toEqual(['dead', 'waiting'])
    expect((await sql`select * from parked_action`.execute(shop.database.query)).rows).toEqual([])

    expect(await act('discard', [dead, waiting])).toEqual([dead, waiting])
    expect(await act('discard', [dead])).toEqual([])
    await sql`delete from parked_message`.execute(shop.database.query)
    const { rows } = await sql`select action, actor, reason, details from parked_action order by id`.execute(
      shop.database.query,
    )
    expect(rows).toEqual(
      [
        { key: 'a', state: 'dead', offset: 1 },
        { key: 'b', state: 'waiting', offset: 2 },
      ].map((letter) => ({
        action: 'discard',
        ...by,
        details: {
          ...letter,
          topic: topic.name,
          partition: 0,
          type: 'StockLevelChanged',
          eventId: null,
          attempts: 1,
          error: 'Error: no',
        },
      })),
    )
  })

  test('retry tries one now that would wait for an hour', async () => {
    let isBroken = true
    const hour = { backoffMs: 3_600_000, maxBackoffMs: 3_600_000 }
    shop = await openTestShop({
      policy: { attempts: 1_000, ...hour },
      trouble: () => {
        if (isBroken) throw new Error('away')
      },
    })
    await shop.start()
    await shop.emit(...stockEvents('sku', 1, 2))
    const [waiting, behind] = await statesAre('waiting', 'behind')
    isBroken = false
    expect(await act('retry', [waiting.id, behind.id])).toEqual([waiting.id])
    await statesAre('handled', 'handled')
    expect(await effects()).toEqual({ sku: [1, 2] })
  })

  test('one whose handler runs into a time limit of the database again and again is dead after its attempts', async () => {
    shop = await openTestShop({
      policy: { attempts: 2 },
      trouble: async (_, tx) => {
        await sql`set local statement_timeout = 50`.execute(tx)
        await sql`select pg_sleep(10)`.execute(tx)
      },
    })
    await shop.start()
    await shop.emit(stockEvent('slow', 1n))
    const [parked] = await statesAre('waiting')
    expect(parked.attempts).toBe(1)
    await eventually('its death', async () => {
      await act('retry', [parked.id]) // which would wait for a minute
      return (await all({ states: ['dead'] })).length === 1
    })
    expect(await all()).toMatchObject([
      { state: 'dead', attempts: 2, error: expect.stringContaining('statement timeout') },
    ])
  })

  test('a discarded head lets its key go on, and stays discarded when its message comes again', async () => {
    shop = await openTestShop({
      policy: { attempts: 1 },
      trouble: ({ key, sequence }) => {
        if (key === 'bad' && sequence === 1n) throw new Error('never')
      },
    })
    await shop.start()
    await shop.emit(...stockEvents('bad', 1, 3))
    const [dead] = await statesAre('dead', 'behind', 'behind')
    const { bytes = null, headers = {} } = (await showLetter(shop.database.query, dead.id)) ?? {}
    await act('discard', [dead.id])
    await statesAre('discarded', 'handled', 'handled')
    expect(await effects()).toEqual({ bad: [2, 3] })
    const { partition } = dead
    const again = { topic: topic.name, partition, key: 'bad', value: bytes, headers }
    await shop.bus.publish([again])
    await shop.emit(stockEvent('bad', 4n))
    await eventually('what came after it', async () => (await shop.effects()).length === 3)
    expect(await effects()).toEqual({ bad: [2, 3, 4] })
    expect(await shop.parked()).toEqual([])
  })

  test('a whole key that was broken is redriven in its order, whatever the order of the ids', async () => {
    let isBroken = true
    shop = await openTestShop({
      policy: { attempts: 1 },
      trouble: ({ key }) => {
        if (isBroken && key !== 'good') throw new Error('bug')
      },
    })
    await shop.start()
    await shop.emit(...stockEvents('x', 1, 5), ...stockEvents('y', 1, 2))
    const keyed = () => all({ states: ['dead', 'behind'] })
    await eventually('all to be parked', async () => (await keyed()).length === 7)
    const heads = idsOf(await all({ states: ['dead'] }))
    expect(heads).toHaveLength(2)
    isBroken = false
    expect((await act('redrive', heads.toReversed())).toSorted()).toEqual(heads.toSorted())
    await eventually('all effects', async () => (await shop.effects()).length === 7)
    expect(await effects()).toEqual({ x: upTo(5), y: upTo(2) })
  })

  test('what passed while it was dead blocks its key once it is redriven, and keeps its order', async () => {
    let isBroken = true
    let failsOnce = true
    shop = await openTestShop({
      policy: { attempts: 2, whenDead: 'pass' },
      trouble: ({ sequence }) => {
        if (isBroken && sequence < 3n) throw new Error('bug')
        if (sequence !== 1n || !failsOnce) return
        failsOnce = false
        throw new Error('once more')
      },
    })
    await shop.start()
    await shop.emit(...stockEvents('sku', 1, 3))
    const [first, second] = await statesAre('dead', 'dead', 'handled')
    expect([await effects(), first.followers]).toEqual([{ sku: [3] }, 0])
    isBroken = false
    await act('redrive', [first.id, second.id])
    await shop.emit(stockEvent('sku', 4n))
    await eventually('all effects', async () => (await shop.effects()).length === 4)
    expect(await effects()).toEqual({ sku: [3, 1, 2, 4] })
  })

  test('one that is redriven after a later one of its key goes first all the same', async () => {
    let isBroken = true
    shop = await openTestShop({
      policy: { attempts: 1, whenDead: 'pass' },
      trouble: () => {
        if (isBroken) throw new Error('bug')
      },
    })
    const first = await shop.start()
    await shop.emit(...stockEvents('sku', 1, 2))
    const [earlier, later] = await statesAre('dead', 'dead')
    await first.stop() // so that both are redriven before either is tried
    await act('redrive', [later.id])
    await act('redrive', [earlier.id])
    isBroken = false
    await shop.start()
    await eventually('both effects', async () => (await shop.effects()).length === 2)
    expect(await effects()).toEqual({ sku: [1, 2] })
  })

  test('an interrupted redrive that is repeated comes to those first that it had not come to', async () => {
    shop = await openTestShop()
    const planted: bigint[] = []
    for (let n = 0; n < 6; n++) planted.push(await plant({ key: `sku-${n}`, state: 'dead', offset: n }))
    await act('redrive', planted.slice(0, 3))
    // They die again, all but one.
    await sql`update parked_message set state = 'dead', next_attempt_at = null where id = any(${planted.slice(0, 2)}::bigint[])`.execute(
      shop.database.query,
    )
    const next = idsOf(await all({ states: ['dead'] }, 4))
    expect(next).toEqual([...planted.slice(3), planted[0]])
  })
})

test('a plan says for each key what would be handled in which order, what follows and what stops it', async () => {
  shop = await openTestShop()
  const [b1, a1, a2, a3, a4, a5, none] = [
    await plant({ key: 'b', state: 'dead', offset: 1 }),
    await plant({ key: 'a', state: 'dead', offset: 2 }),
    await plant({ key: 'a', state: 'waiting', offset: 3 }),
    await plant({ key: 'a', state: 'dead', offset: 4 }),
    await plant({ key: 'a', state: 'waiting', offset: 5 }),
    await plant({ key: 'a', state: 'dead', offset: 6 }),
    await plant({ key: null, state: 'dead', offset: 7 }),
  ] as [bigint, bigint, bigint, bigint, bigint, bigint, bigint]
  const of = { topic: topic.name, stopsAt: null, followers: 0 }
  const plan = (...ids: bigint[]) => planFor(shop.database.query, ids)
  expect(await plan(a3, b1, a1, none, a5)).toEqual([
    { ...of, key: 'a', ids: [a1, a3, a5], followers: 2 },
    { ...of, key: 'b', ids: [b1] },
    { ...of, key: null, ids: [none] },
  ])
  expect(await plan(a1)).toEqual([{ ...of, key: 'a', ids: [a1], followers: 1, stopsAt: a3 }])
  expect(await plan(a3)).toEqual([{ ...of, key: 'a', ids: [a3], stopsAt: a1 }])
  expect(idsOf(await all({ states: ['behind'] }))).toEqual([a2, a4])
  expect(await plan()).toEqual([])
})
