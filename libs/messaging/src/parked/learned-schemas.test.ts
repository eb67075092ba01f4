import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { type LockEntry, registry } from '@shopstream/events'
import { createCodec } from '@shopstream/events/codec'
import { eventually } from '@shopstream/testing'
import { outgoing } from '../outbox/outbox.ts'
import { openTestShop, type TestShop } from '../testing/shop.ts'
import { rawMessage, stockEvent } from '../testing/stock.ts'

let shop: TestShop
afterEach(() => shop.close())

const newest = registry.findLast(({ subject }) => subject === 'shopstream.stock.StockLevelChanged') as LockEntry
const { fields, ...record } = newest.schema as { fields: object[] }
const { type, data } = stockEvent('sku', 1n)
/** An event by a schema that this build does not know, and what tells the schema; each id is learned only once. */
const newerBy = (id: number) => {
  const schema = { ...record, fields: [...fields, { name: `shelf${id}`, type: 'string', default: '' }] }
  const version = newest.version + 1
  const codec = createCodec<Record<string, unknown>>([...registry, { ...newest, id, version, schema }])
  const value = codec.encode(type, { ...data, [`shelf${id}`]: 'A7' })
  const about = { schemaId: id, subject: newest.subject, version, schema: JSON.stringify(schema) }
  return {
    event: rawMessage('sku', value, outgoing('shop', stockEvent('sku', 1n)).headers as Record<string, string>),
    told: outgoing('deployment', { type: 'SchemaRegistered', key: String(id), sequence: 1n, data: about }),
  }
}

test('events of a newer producer wait until their schema has come through its topic, and no longer', async () => {
  shop = await openTestShop({ policy: { attempts: 1, backoffMs: 3_600_000, maxBackoffMs: 3_600_000 } })
  await shop.start()
  const { event, told } = newerBy(100_998)
  await shop.bus.publish([event])
  await eventually('the parked event', async () => (await shop.parked()).length === 1)
  expect(await shop.parked()).toMatchObject([{ state: 'waiting', error: expect.stringContaining('100998') }])
  await shop.bus.publish([told])
  await eventually('its effect', async () => (await shop.effects()).length === 1)
  expect(await shop.parked()).toEqual([])
})

test('events of a newer producer do not spend the attempts of their handler on waiting', async () => {
  let fails = true
  shop = await openTestShop({
    policy: { attempts: 2 },
    trouble: () => {
      if (!fails) return
      fails = false
      throw new Error('once')
    },
  })
  await shop.start()
  const { event, told } = newerBy(100_997)
  await shop.bus.publish([event])
  await eventually('some waiting', async () => {
    await sql`update parked_message set next_attempt_at = now()`.execute(shop.database.query) // it would take hours
    return ((await shop.parked())[0]?.attempts ?? 0) > 4
  })
  await shop.bus.publish([told])
  await eventually('its effect', async () => (await shop.effects()).length === 1)
  expect([fails, await shop.parked()]).toEqual([false, []])
})

test('events whose schema id was told before as another schema are not read by either in silence', async () => {
  shop = await openTestShop()
  await shop.start()
  const { told } = newerBy(100_996)
  const other = outgoing('deployment', {
    type: 'SchemaRegistered',
    key: '100996',
    sequence: 1n,
    data: { schemaId: 100_996, subject: 'shopstream.stock.Other', version: 1, schema: '{}' },
  })
  await shop.bus.publish([told, other])
  await eventually('the parked', async () => (await shop.parked()).length === 1)
  expect((await shop.parked())[0]?.error).toContain('schema 100996 was shopstream.stock.StockLevelChanged before')
})

test('events of a newer producer are read at once by a process that starts after their schema was told', async () => {
  shop = await openTestShop({ policy: { backoffMs: 3_600_000, maxBackoffMs: 3_600_000 } })
  await shop.start()
  const { event, told } = newerBy(100_999)
  await shop.bus.publish([told])
  const isKept = () => sql`select 1 from learned_schema where schema_id = 100999`.execute(shop.database.query)
  await eventually('the schema to be kept', async () => (await isKept()).rows.length === 1)
  await shop.bus.publish([event])
  await eventually('its effect', async () => (await shop.effects()).length === 1)
  expect(await shop.parked()).toEqual([])
})
