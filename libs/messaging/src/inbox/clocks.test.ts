import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import { createSteppedClock, eventually } from '@shopstream/testing'
import { outgoing } from '../outbox/outbox.ts'
import { collect, openTestShop, sequencesByKey, type TestShop } from '../testing/shop.ts'
import { stockEvent } from '../testing/stock.ts'

const topic = topicOf('StockLevelChanged')
let shop: TestShop
afterEach(() => shop.close())

const day = 86_400_000
const idOf = (time: number) =>
  `${time
    .toString(16)
    .padStart(12, '0')
    .replace(/^(.{8})/, '$1-')}-7000-8000-000000000001`
const madeAt = (key: string, time: number) => {
  const message = outgoing('shop', stockEvent(key, 1n))
  return { ...message, headers: { ...message.headers, ce_id: idOf(time) } }
}

test('an event of a time to come takes effect, and does so once', async () => {
  shop = await openTestShop()
  await shop.start()
  const now = Date.now()
  const ahead = [2 * day, 40 * day, 100 * 365 * day].map((ms) => madeAt(`ahead ${ms}`, now + ms))
  await shop.bus.publish([...ahead, ...ahead])
  await eventually('their effects', async () => (await shop.effects()).length === ahead.length)
  await sql`select inbox_add_week(week::date) from generate_series(
    date_trunc('week', now()), now() + interval '50 days', '1 week') as week`.execute(shop.database.query)
  await shop.bus.publish([...ahead, ...['x', 'y', 'z'].map((key) => madeAt(key, now + key.charCodeAt(0)))])
  await eventually('what comes behind them', async () => (await shop.effects()).length === ahead.length + 3)
  expect(await shop.parked()).toEqual([])
})

test.each([-40, 40])(
  'a process whose clock is %s days off handles the events of others, and others handle its',
  async (days) => {
    const dir = mkdtempSync(join(tmpdir(), 'shopstream-clock-'))
    const clock = createSteppedClock(join(dir, 'clock'))
    clock.step(days * day)
    shop = await openTestShop()
    const off = shop.startProcess('off', { clock })
    await shop.emit(stockEvent('echoed', 1n), stockEvent('echoed', 2n))
    await eventually('its effects', async () => (await shop.effects()).length >= 2, { timeoutMs: 60_000 })
    await off.kill('SIGKILL')
    await shop.start()
    await eventually('all effects', async () => (await shop.effects()).length === 4, { timeoutMs: 60_000 })
    expect(sequencesByKey(await shop.effects())).toEqual({ echoed: [1, 2], 'echo of echoed': [1, 2] })
    expect(await shop.parked()).toEqual([])
    rmSync(dir, { recursive: true })
  },
  120_000,
)

test('an event older than the inbox remembers is never handled', async () => {
  shop = await openTestShop()
  const published = collect(shop.bus, topic.name)
  await shop.start()
  await shop.emit(stockEvent('a', 1n))
  await eventually('its message', () => published.messages.length === 1)
  const [message] = published.messages
  const old = { ...message, headers: { ...message?.headers, ce_id: '01890000-0000-7000-8000-000000000001' } }
  await shop.bus.publish([old as NonNullable<typeof message>])
  await eventually('the parked', async () => (await shop.parked()).length === 1)
  expect(await shop.parked()).toMatchObject([{ state: 'dead', error: expect.stringContaining('older than') }])
  expect(await shop.effects()).toHaveLength(1)
  await published.close()
})
