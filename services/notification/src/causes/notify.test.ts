import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, readMigrations, sql } from '@shopstream/database'
import type { AnyNewEvent, Message } from '@shopstream/messaging'
import { createLogger } from '@shopstream/observability'
import { eventually, type TestDatabase, testDatabase } from '@shopstream/testing'
import { rememberRecipients } from '../recipients/remember.ts'
import type { Tables } from '../tables.ts'
import { orderOf, person } from '../testing.ts'
import { notifyBuyers } from './notify.ts'

let place: TestDatabase
let database: Database<Tables>

beforeAll(async () => {
  place = await testDatabase('notify')
  const logger = createLogger({ service: 'test', level: 'silent', format: 'json' })
  database = createDatabase<Tables>({ url: place.url, poolSize: 4, applicationName: 'notify-test', logger })
  await migrate(database, readMigrations('notification', new URL('../app.ts', import.meta.url).href))
})
afterAll(async () => {
  await database.close()
  await place.drop()
})

const received = <N extends 'OrderConfirmed' | 'UserRegistered'>(event: AnyNewEvent<N>) =>
  ({
    ...event,
    id: crypto.randomUUID(),
    time: new Date(),
    topic: '',
    partition: 0,
    offset: 0n,
  }) as unknown as Message<N>

const waitsForLock = async () => {
  const { rows } = await sql`
    select 1 from pg_stat_activity where application_name = 'notify-test' and wait_event_type = 'Lock'
  `.execute(database.query)
  return rows.length > 0
}

/** Runs `first`, and `second` before the first has committed. */
async function overlap(first: Parameters<typeof database.transaction>[0], second: typeof first): Promise<void> {
  const mayCommit = Promise.withResolvers<void>()
  const hasWritten = Promise.withResolvers<void>()
  const earlier = database.transaction(async (tx) => {
    await first(tx)
    hasWritten.resolve()
    await mayCommit.promise
  })
  await Promise.race([hasWritten.promise, earlier])
  let done = false
  const later = database.transaction(second).then(() => {
    done = true
  })
  await eventually('the second to wait for the first, or to be through', async () => done || (await waitsForLock()))
  mayCommit.resolve()
  await Promise.all([earlier, later])
}

test.each([
  ['the cause is still being written when its recipient comes', false],
  ['the recipient is still being written when the cause comes', true],
])('they meet when %s', async (_what, recipientFirst) => {
  const ana = person()
  const [user, order] = [received(ana.registered()), received(orderOf(ana.userId).confirmed())]
  const remember = (tx: Parameters<typeof rememberRecipients>[0]) => rememberRecipients(tx, [user])
  const notify = (tx: Parameters<typeof notifyBuyers>[0]) => notifyBuyers(tx, [order])
  await (recipientFirst ? overlap(remember, notify) : overlap(notify, remember))
  const stored = await database.query
    .selectFrom('notification')
    .select(['kind', 'state'])
    .where('user_id', '=', ana.userId)
    .orderBy('kind')
    .execute()
  expect(stored).toEqual([
    { kind: 'confirmed', state: 'queued' },
    { kind: 'welcome', state: 'queued' },
  ])
})
