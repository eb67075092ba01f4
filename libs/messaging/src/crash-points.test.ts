import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { partitionOf, topicOf } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { type CrashPoint, crashPoints } from './crash-points.ts'
import { atRest, openTestShop, sequencesByKey, stockEvents, type TestShop, upTo } from './testing/shop.ts'
import { toldByKeys } from './testing/stock.ts'

const names = (Object.keys(crashPoints) as CrashPoint[]).filter((name) => !name.startsWith('growth-'))
const topic = topicOf('StockLevelChanged')
const malformed = { key: 'malformed', value: Buffer.from('no Avro'), headers: { ce_type: 'StockLevelChanged' } }

/** What the child does with them by their keys goes through every path; see `toldByKeys`. */
const events = { plain: 5, 'echoed-1': 5, 'echoed-2': 5, failing: 4, dying: 4 }
const effects = {
  ...Object.fromEntries(['plain', 'echoed-1', 'echoed-2'].map((key) => [key, upTo(5)])),
  ...Object.fromEntries(['echoed-1', 'echoed-2'].map((key) => [`echo of ${key}`, upTo(5)])),
  failing: upTo(4),
  dying: [1],
}
const parked = [
  { key: 'dying', sequence: '2', state: 'dead', errors: ['never', 'never', 'never'] },
  { key: 'dying', sequence: '3', state: 'waiting', errors: [] },
  { key: 'dying', sequence: '4', state: 'waiting', errors: [] },
  {
    key: 'failing',
    sequence: '2',
    state: 'handled',
    errors: ['not before the third attempt', 'not before the third attempt'],
  },
  { key: 'malformed', sequence: null, state: 'dead', errors: ['header ce_id is no UUID'] },
]

test.concurrent.each(names)(
  'a process that dies at %s has lost nothing, and the next one does nothing twice',
  async (name) => {
    const shop = await openTestShop({ poolSize: 3 })
    try {
      await shop.bus.publish([
        { topic: topic.name, partition: partitionOf(malformed.key, topic.partitions), ...malformed },
      ])
      await shop.emit(...Object.entries(events).flatMap(([key, last]) => stockEvents(key, 1, last)))
      const dying = shop.startProcess('dying', { crashAt: name })
      await eventually(`the process to die at ${name}`, () => !dying.isAlive, { timeoutMs: 60_000, everyMs: 50 })
      expect(dying.endedBy).toBe('SIGKILL')
      await shop.start([toldByKeys])
      const expected = async () => expect(await outcome(shop)).toEqual({ effects, parked })
      await eventually('everything to be done', () => expected().then(() => true), { timeoutMs: 60_000, everyMs: 200 })
      await atRest(shop)
      await expected() // also after whatever was delivered again
      expect(await deadLetters(shop)).toEqual(['dying', 'malformed'])
    } finally {
      await shop.close()
    }
  },
  150_000,
)

/** What has taken effect so far, and what is parked. */
const outcome = async (shop: TestShop) => ({
  effects: sequencesByKey(await shop.effects()),
  parked: await parkedRows(shop),
})

/** Those that have failed or still wait; whether others waited for them for a while is a matter of luck. */
async function parkedRows(shop: TestShop): Promise<typeof parked> {
  const { rows } = await sql<(typeof parked)[number]>`
    select key, headers->>'ce_sequence' as sequence, state, array(
      select split_part(error, E'\n', 1) from parked_attempt where parked_id = parked_message.id order by number) as errors
    from parked_message where attempts > 0 or ended_at is null order by key, sequence`.execute(shop.database.query)
  return rows.map((row) => ({ ...row, errors: row.errors.map((error) => error.replace('Error: ', '')) }))
}

/** Keys of what stands in the dead-letter topic; what stands there again, as it may after a crash of the relay, counts once. */
async function deadLetters(shop: TestShop): Promise<(string | null)[]> {
  const byPlace = new Map<string, string | null>()
  await shop.bus.read({
    topics: ['shop.shop.dlq'],
    toEnd: true,
    handle(messages) {
      for (const { key, headers } of messages) byPlace.set(`${headers.dlq_partition}/${headers.dlq_offset}`, key)
    },
  })
  return [...byPlace.values()].sort()
}

test.each([
  ['killed in a test build', 'test', 'chunk-committed', 'SIGKILL'],
  ['not elsewhere', 'test', 'offset-resolved', null],
  ['never in production', 'production', 'chunk-committed', null],
])('a process that comes by a crash point is %s', (_, mode, crashAt, signal) => {
  const script = `import { crashPoint } from ${JSON.stringify(join(import.meta.dirname, 'crash-points.ts'))}
    process.stdout.write('before ')
    crashPoint('chunk-committed')
    process.stdout.write('after')`
  const ended = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], {
    env: { NODE_ENV: mode, SHOPSTREAM_CRASH_AT: crashAt },
    encoding: 'utf8',
  })
  expect(ended).toMatchObject({ signal, stdout: signal ? 'before ' : 'before after' })
})
