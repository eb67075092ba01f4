import { afterEach, expect, test } from '@jest/globals'
import { topicOf } from '@shopstream/events'
import { createMetrics, runInTrace, startSpan } from '@shopstream/observability'
import { eventually } from '@shopstream/testing'
import { collect, openTestShop, type TestShop } from '../testing/shop.ts'
import { rawMessage, stockEvent } from '../testing/stock.ts'
import { typeLabelOf } from './meters.ts'

const topic = topicOf('StockLevelChanged').name
let shop: TestShop
afterEach(() => shop?.close())

test('each event is counted once for what became of it: produced, published, handled, repeated, parked, dead, handled after all', async () => {
  let fails = true
  shop = await openTestShop({
    trouble: ({ key }) => {
      if (key === 'bad' && fails) throw new Error('no')
    },
    policy: { backoffMs: 50, maxBackoffMs: 50, attempts: 1_000 },
  })
  const metrics = createMetrics('shop')
  const published = collect(shop.bus, topic)
  await shop.start(undefined, metrics)
  const counted = (await metrics.metrics()).match(/^shopstream_(events|outbox)_\w+_total\{.*\} 0$/gm) ?? []
  for (const name of ['events_produced', 'outbox_published', 'events_consumed'])
    expect(counted.filter((line) => line.includes(name) && line.includes('StockLevelChanged'))).not.toEqual([])
  await shop.emit(stockEvent('good', 1n), stockEvent('bad', 1n))
  await eventually('both', () => published.messages.length === 2)
  await eventually('the good one', async () => (await shop.effects()).length === 1)
  await eventually('the bad one', async () => (await shop.parked()).length === 1)
  await shop.bus.publish(published.messages.filter(({ key }) => key === 'good'))
  await shop.bus.publish([rawMessage('none', Buffer.from('no event'), {})])
  const count = async (name: string, labels: string) => {
    const lines = (await metrics.metrics()).split('\n').filter((line) => line.startsWith(`${name}{`))
    return Number(lines.find((line) => line.includes(labels))?.split(' ')[1])
  }
  const consumed = (type: string, outcome: string) =>
    count('shopstream_events_consumed_total', `topic="${topic}",type="${type}",outcome="${outcome}"`)
  await eventually('the repeated one', async () => (await consumed('StockLevelChanged', 'repeated')) === 1)
  await eventually('the dead one', async () => (await consumed('unreadable', 'dead')) === 1)
  expect(await consumed('StockLevelChanged', 'handled')).toBe(1)
  expect(await consumed('StockLevelChanged', 'parked')).toBe(1)
  const event = `topic="${topic}",type="StockLevelChanged"`
  await eventually('a failed attempt', async () =>
    Boolean(await count('shopstream_parked_attempts_failed_total', `${event},state="waiting"`)),
  )
  fails = false
  await eventually('the bad one, handled', async () => (await consumed('StockLevelChanged', 'handled')) === 2)
  expect(await count('shopstream_events_produced_total', event)).toBe(2)
  expect(await count('shopstream_outbox_published_total', event)).toBe(2)
  expect(await count('shopstream_event_age_seconds_count', event)).toBe(2)
  expect(await count('shopstream_event_batch_messages_count', 'type="StockLevelChanged"')).toBeGreaterThan(2)
  await published.close()
})

test('the age of an event has the trace that it belongs to as its exemplar', async () => {
  shop = await openTestShop()
  const metrics = createMetrics('shop')
  await shop.start(undefined, metrics)
  const { context } = startSpan('a request', { kind: 'server' })
  await runInTrace(context, () => shop.emit(stockEvent('good', 1n)))
  await eventually('its effect', async () => (await shop.effects()).length === 1)
  expect(await metrics.metrics()).toMatch(
    new RegExp(`^shopstream_event_age_seconds_bucket\\{.*\\} 1 # \\{trace_id="${context.traceId}"\\} `, 'm'),
  )
})

test('the label of a type is one that we know, whatever a header says', () => {
  expect(typeLabelOf({ ce_type: 'OrderPlaced' })).toBe('OrderPlaced')
  for (const ce_type of ['OrderPlaced2', '', null]) expect(typeLabelOf({ ce_type })).toBe('unreadable')
})
