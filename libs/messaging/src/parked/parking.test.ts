import { expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import fc from 'fast-check'
import type { IncomingMessage } from '../broker/bus.ts'
import { insertOutbox, outgoing } from '../outbox/outbox.ts'
import { atRest, openTestShop, type TestShop, upTo } from '../testing/shop.ts'
import { stockEvent } from '../testing/stock.ts'
import { actOnLetters, type Letter, type LetterAction, listLetters } from './dead-letters.ts'

/** What handling an event does: it fails now and then, always until it is mended, or it can never be read. */
type Kind = 'good' | 'transient' | 'permanent' | 'malformed'

/** What operators do at random; each comes up again and again. */
const moves = ['redrive', 'redrive all', 'retry', 'mend', 'mend all', 'discard', 'discard any'] as const

const eventsPerKey = 24
const kinds = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Kind>('good') },
  { weight: 3, arbitrary: fc.constant<Kind>('transient') },
  { weight: 2, arbitrary: fc.constant<Kind>('permanent') },
  { weight: 1, arbitrary: fc.constant<Kind>('malformed') },
)
const story = fc.record({
  keys: fc.array(fc.array(kinds, { minLength: eventsPerKey, maxLength: eventsPerKey }), { minLength: 6, maxLength: 6 }),
  moves: fc.shuffledSubarray([...moves], { minLength: moves.length }),
  picks: fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
  /** Which instance dies, and how many events have been settled by then; what the topic holds is then delivered again. */
  crash: fc.record({ instance: fc.nat(1), after: fc.integer({ min: 4, max: 60 }) }),
})

const by = { actor: 'operator', reason: 'at random' }
const patience = { timeoutMs: 60_000, everyMs: 50 }
let shop: TestShop

const live = () => listLetters(shop.database.query, { states: ['dead', 'waiting', 'behind'] })
const sequenceOf = async ({ id }: Letter) => {
  const { rows } = await sql<{ sequence: string }>`
    select headers->>'ce_sequence' as sequence from parked_message where id = ${id}`.execute(shop.database.query)
  return BigInt(rows[0]?.sequence ?? 0)
}

/** One move of an operator, on one letter or all. */
async function make(move: (typeof moves)[number], pick: number): Promise<void> {
  const letters = await live()
  const dead = letters.filter(({ state }) => state === 'dead')
  const among = move === 'retry' || move === 'discard any' ? letters : dead
  const chosen = among[pick % Math.max(1, among.length)]
  if (!chosen) return
  const act = (action: LetterAction, letters = [chosen]) =>
    actOnLetters(
      shop.database,
      action,
      letters.map(({ id }) => id),
      by,
    )
  const mend = async (letters: Letter[]) => {
    for (const letter of letters)
      await sql`delete from fault where key = ${letter.key} and sequence = ${await sequenceOf(letter)}`.execute(
        shop.database.query,
      )
    await act('redrive', letters)
  }
  await {
    redrive: () => act('redrive'),
    'redrive all': () => act('redrive', dead.toReversed()),
    retry: () => act('retry'),
    mend: () => mend([chosen]),
    'mend all': () => mend(dead),
    discard: () => act('discard'),
    'discard any': () => act('discard'),
  }[move]()
}

/** In chunks, all keys alternating. */
async function emitAll(keys: Record<string, Kind[]>): Promise<void> {
  const chances = { good: 0, malformed: 0, transient: 0.5, permanent: 1 }
  for (let n = 0; n < eventsPerKey; n++) {
    await shop.database.transaction(async (tx) => {
      for (const [key, ofKey] of Object.entries(keys)) {
        const kind = ofKey[n] as Kind
        const sequence = BigInt(n + 1)
        const message = outgoing('shop', stockEvent(key, sequence))
        const value = kind === 'malformed' ? (message.value as Buffer).subarray(0, -1) : message.value
        await sql`insert into fault values (${key}, ${sequence}, ${chances[kind]})`.execute(tx)
        await insertOutbox(tx, [{ ...message, value }])
      }
    })
  }
}

/** All that the topic holds so far comes once more. */
async function replay(): Promise<void> {
  const messages: IncomingMessage[] = []
  await shop.bus.read({
    topics: ['shop.stock.v1'],
    toEnd: true,
    handle: (found) => void messages.push(...found),
  })
  await shop.bus.publish(messages)
}

test('whatever fails, crashes, comes again, is redriven or discarded: each key takes effect in order, nothing twice, no gap but what was discarded', async () => {
  const property = fc.asyncProperty(story, async ({ keys: kindsByKey, moves: order, picks, crash }) => {
    const keys = Object.fromEntries(kindsByKey.map((ofKey, n) => [`faulty-${n}`, ofKey]))
    const total = kindsByKey.length * eventsPerKey
    shop = await openTestShop()
    try {
      await sql`create table fault (key text, sequence bigint, chance float, primary key (key, sequence))`.execute(
        shop.database.query,
      )
      const instances = ['one', 'two'].map((name) => shop.startProcess(name))
      await emitAll(keys)

      const discarded = () => listLetters(shop.database.query, { states: ['discarded'] })
      let settled = 0
      let crashed = false
      let made = 0
      await eventually(
        'every event to be handled or discarded',
        async () => {
          settled = (await shop.effects()).length + (await discarded()).length
          if (!crashed && settled >= crash.after) {
            crashed = true
            await instances[crash.instance]?.kill('SIGKILL')
            shop.startProcess('three')
            await replay()
          }
          if (settled > 0) {
            await make(order[made % order.length] as (typeof moves)[number], picks[made % picks.length] as number)
            made += 1
          }
          return settled >= total
        },
        patience,
      )
      const { effects, stored } = await atRest(shop)

      const given = new Map<string, Set<number>>()
      for (const letter of await discarded()) {
        const ofKey = given.get(letter.key ?? '') ?? new Set()
        given.set(letter.key ?? '', ofKey.add(Number(await sequenceOf(letter))))
      }
      const expected = Object.keys(keys).map((key) => [key, upTo(eventsPerKey).filter((n) => !given.get(key)?.has(n))])
      expect(Object.keys(stored).toSorted()).toEqual(Object.keys(keys))
      expect(Object.keys(keys).map((key) => [key, effects[key] ?? []])).toEqual(expected)
      expect(await shop.parked()).toEqual([])
      expect(crashed).toBe(true)
      const audit = await sql<{ discards: number }>`
        select count(*)::integer as discards from parked_action where action = 'discard'`.execute(shop.database.query)
      expect(audit.rows[0]?.discards).toBe((await discarded()).length)
    } finally {
      await shop.close()
    }
  })
  await fc.assert(property, { numRuns: 2, endOnFailure: true })
}, 300_000)
