import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { openTestTables, type TestTables } from '../testing.ts'
import { claimDue } from './queries.ts'

let tables: TestTables
beforeAll(async () => {
  tables = await openTestTables()
})
afterAll(() => tables.close())

test('instances that claim at once get different mails, and none waits for another', async () => {
  const { database } = tables
  await sql`
    with r as (insert into recipient (user_id, email, sequence)
               values (gen_random_uuid(), 'ana@example.com', 1) returning user_id)
    insert into notification (id, user_id, kind, cause_id, facts, subject, state)
    select gen_random_uuid(), user_id, 'welcome', gen_random_uuid(), '{}', 'welcome', 'queued'
    from r, generate_series(1, 40)
  `.execute(database.query)

  const four = { lane: 'urgent' as const, limit: 4, leaseMs: 20_000 }
  const hundred = { ...four, limit: 100 }
  const claimed = await database.transaction(async (tx) => {
    const held = await claimDue(tx, four) // not committed while the others claim
    const others = await Promise.all(Array.from({ length: 6 }, () => claimDue(database.query, four)))
    return [held, ...others].flat()
  })
  expect(claimed).toHaveLength(28)
  expect(new Set(claimed.map(({ id }) => id)).size).toBe(28)
  expect(await claimDue(database.query, hundred)).toHaveLength(12)
  expect(await claimDue(database.query, hundred)).toEqual([])
})
