import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sql, type Transaction } from '@shopstream/database'
import type { AnyNewEvent, Message } from '@shopstream/messaging'
import { eventually } from '@shopstream/testing'
import { rememberRecipients } from '../recipients/remember.ts'
import { openTestTables, orderOf, person, type TestTables } from '../testing.ts'
import { notifyBuyers } from './notify.ts'

let tables: TestTables
beforeAll(async () => {
  tables = await openTestTables()
})
afterAll(() => tables.close())

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
    select 1 from pg_stat_activity where application_name = 'test-tables' and wait_event_type = 'Lock'
  `.execute(tables.database.query)
  return rows.length > 0
}

type Work = (tx: Transaction) => Promise<void>

/** Runs `first`, and `second` before the first has committed. */
async function overlap(first: Work, second: Work): Promise<void> {
  const mayCommit = Promise.withResolvers<void>()
  const hasWritten = Promise.withResolvers<void>()
  const earlier = tables.database.transaction(async (tx) => {
    await first(tx)
    hasWritten.resolve()
    await mayCommit.promise
  })
  await Promise.race([hasWritten.promise, earlier])
  let done = false
  const later = tables.database.transaction(second).then(() => {
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
  const remember = (tx: Transaction) => rememberRecipients(tx, [user])
  const notify = (tx: Transaction) => notifyBuyers(tx, [order])
  await (recipientFirst ? overlap(remember, notify) : overlap(notify, remember))
  const stored = await tables.database.query
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

test('no name of a recipient is kept, also while the version before still writes them', async () => {
  const ana = person()
  const { query } = tables.database
  await tables.database.transaction((tx) => rememberRecipients(tx, [received(ana.registered())]))
  // As that version does, which has text in the column when it sends a mail.
  const names = async (write: string) => {
    await sql.raw(write).execute(query)
    return (await sql`select display_name as name from recipient where user_id = ${ana.userId}`.execute(query)).rows
  }
  expect(await names('select 1')).toEqual([{ name: '' }])
  expect(await names(`update recipient set email = 'b@example.com', display_name = 'Ana'`)).toEqual([{ name: '' }])
})
