import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { insertRecipients, openTestTables, type TestTables } from '../testing.ts'
import { causeOfMailing, fillNext, findMailing, insertMailing } from './queries.ts'

let tables: TestTables
beforeAll(async () => {
  tables = await openTestTables()
})
afterAll(() => tables.close())

test('two instances and a crash in every third batch: each known user has one mail of each mailing, others none', async () => {
  const { database } = tables
  await insertRecipients(database.query, 100)
  await sql`update recipient set email = null, erased = true where email like '%0@example.com'`.execute(database.query)
  await sql`update recipient set opted_out_at = now() where email like '%5@example.com'`.execute(database.query)
  await sql`insert into recipient (user_id) select gen_random_uuid() from generate_series(1, 5)`.execute(database.query)
  const mailing = { subject: 'News', text: 'All is well.', createdBy: newEventId(), traceparent: null }
  const ids = await database.transaction(async (tx) => [
    await insertMailing(tx, mailing),
    await insertMailing(tx, mailing),
  ])

  let batches = 0
  const fill = async () => {
    for (let isOpen = true; isOpen; ) {
      isOpen = await database
        .transaction(async (tx) => {
          const found = await fillNext(tx, 7)
          if (++batches % 3 === 0) throw new Error('killed')
          return found
        })
        .catch(() => true)
    }
  }
  await Promise.all([fill(), fill()])
  await fill() // an instance whose turn came while the other held the last one

  expect(batches).toBeGreaterThan((2 * 105) / 7)
  for (const id of ids) {
    const { rows } = await sql<{ user_id: string; email: string; cause_id: string; lane: string }>`
      select n.user_id, r.email, n.cause_id, n.lane from notification n join recipient r using (user_id)
      where mailing_id = ${id} and state = 'queued'`.execute(database.query)
    expect(new Set(rows.map(({ email }) => email)).size).toBe(80)
    expect(rows).toHaveLength(80)
    expect(rows.every(({ user_id, cause_id }) => cause_id === causeOfMailing(id, user_id))).toBe(true)
    expect(new Set(rows.map(({ lane }) => lane))).toEqual(new Set(['bulk']))
    expect(await findMailing(database.query, id)).toMatchObject({ recipients: 80, sent: 0, filledAt: expect.any(Date) })
  }
})

test('nobody is erased and written to: who is being erased while a batch is made is left out', async () => {
  const { database } = tables
  await sql`truncate recipient, notification, mailing cascade`.execute(database.query)
  await insertRecipients(database.query, 1)
  await database.transaction((tx) =>
    insertMailing(tx, { subject: 'News', text: 'All is well.', createdBy: newEventId(), traceparent: null }),
  )
  const erased = Promise.withResolvers<void>()
  const committing = Promise.withResolvers<void>()
  const erasing = database.transaction(async (tx) => {
    await sql`update recipient set email = null, erased = true`.execute(tx)
    erased.resolve()
    await committing.promise
  })
  await erased.promise
  const filling = database.transaction((tx) => fillNext(tx, 10))
  await eventually('the batch to wait for the erasure', async () => {
    const { rows } = await sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(
      database.query,
    )
    return rows.length > 0
  })
  committing.resolve()
  await Promise.all([erasing, filling])
  const { rows } = await sql`select 1 from notification`.execute(database.query)
  expect(rows).toEqual([])
})
