import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sql, type Transaction } from '@shopstream/database'
import { eventually, testLogger } from '@shopstream/testing'
import type { State, Tables } from '../tables.ts'
import { openTestTables, type TestTables } from '../testing.ts'
import { createDueFloor } from './due-floor.ts'
import { sendingPolicy } from './policy.ts'
import { backlog, claimDue } from './queries.ts'
import { createSender } from './sender.ts'
import { createMailTransport } from './smtp.ts'
import { createAnswers } from './smtp-replies.ts'
import { startSmtpStub } from './smtp-stub.ts'

let tables: TestTables
beforeAll(async () => {
  tables = await openTestTables()
})
afterAll(() => tables.close())

const claim = (claiming: Parameters<typeof claimDue>[1]) => tables.database.transaction((tx) => claimDue(tx, claiming))

/** Makes mails that became due one after the other, in the last second of `agoMs`. */
const queue = (count: number, agoMs = 0) =>
  sql`
    with r as (insert into recipient (user_id, email, sequence)
               values (gen_random_uuid(), 'ana@example.com', 1) returning user_id)
    insert into notification (id, user_id, kind, cause_id, facts, subject, state, next_attempt_at)
    select gen_random_uuid(), user_id, 'welcome', gen_random_uuid(), '{}', 'welcome', 'queued',
           now() - (${agoMs} + 1000 * (1 - n::float8 / ${count})) * interval '1 ms'
    from r, generate_series(1, ${count}::integer) n
  `.execute(tables.database.query)

test('instances that claim at once get different mails, and none waits for another', async () => {
  const { database } = tables
  await queue(40)
  const four = { lane: 'urgent' as const, limit: 4, leaseMs: 20_000 }
  const hundred = { ...four, limit: 100 }
  const claimed = await database.transaction(async (tx) => {
    const held = await claimDue(tx, four) // not committed while the others claim
    const others = await Promise.all(Array.from({ length: 6 }, () => claim(four)))
    return [held, ...others].flat()
  })
  expect(claimed).toHaveLength(28)
  expect(new Set(claimed.map(({ id }) => id)).size).toBe(28)
  expect(await claim(hundred)).toHaveLength(12)
  expect(await claim(hundred)).toEqual([])
})

test('a mail whose sender dies with it again and again goes out in growing pauses, and ends as of unknown outcome', async () => {
  const { query } = tables.database
  const postponed = (id: string | undefined) =>
    sql`update notification set next_attempt_at = now() + interval '1 hour' where id = ${id}`.execute(query)
  /** A mail that was claimed so often by processes that wrote nothing more. */
  const left = async (times: number) => {
    await queue(1)
    const claims = []
    for (let n = 0; n < times; n++) claims.push(...(await claim({ lane: 'urgent', limit: 1, leaseMs: 0 })))
    await postponed(claims[0]?.id)
    return claims[0]?.id as string
  }
  const ids = [await left(1), await left(2), await left(4), await left(5)]
  await sql`update notification set next_attempt_at = now() where id = any(${ids}::uuid[])`.execute(query)

  let sent = 0
  const stub = await startSmtpStub({
    async mail() {
      sent += 1
      return '250 accepted'
    },
  })
  const from = 'shop@example.com'
  const transport = createMailTransport({ url: stub.url, from, ...sendingPolicy })
  const sender = createSender({
    database: tables.database,
    lane: 'urgent',
    transport,
    floor: createDueFloor(sendingPolicy),
    answers: createAnswers(sendingPolicy),
    from,
    optOutLinkOf: () => undefined,
    policy: sendingPolicy,
    logger: testLogger(),
    count() {},
  })
  sender.start()
  const decided = async () => {
    const { rows } = await sql<{ state: State; unknowns: number; pause: number; reason: string | null }>`
      select n.state, n.unknowns, extract(epoch from n.next_attempt_at - now())::float8 pause, n.last_error reason
      from unnest(${ids}::uuid[]) with ordinality as asked (id, place) join notification n on n.id = asked.id
      where n.state <> 'queued' or n.last_error is not null order by place`.execute(query)
    return rows
  }
  await eventually('all to be begun', async () => (await decided()).length === ids.length)
  await sender.stop()
  const rows = await decided()
  await sql`update notification set state = 'cancelled' where state = 'queued'`.execute(query) // for the next test
  transport.close()
  await stub.close()
  const reason = 'outcome unknown: the service ended before it was known'
  expect(rows).toMatchObject([
    { state: 'sent', reason: null },
    { state: 'queued', unknowns: 2, reason },
    { state: 'queued', unknowns: 4, reason },
    { state: 'failed', unknowns: 5, reason },
  ])
  expect(sent).toBe(1)
  // The lease of 20 s was a part of 30 s and of 120 s, each up to a fifth less by chance.
  const [, second, fourth] = rows.map(({ pause }) => pause)
  expect(second).toBeLessThan(11)
  expect(fourth).toBeGreaterThan(60)
  expect(fourth).toBeLessThan(101)
  const { rows: told } = await sql`
    select from outbox where headers->>'ce_type' like '%NotificationFailed%' and key = ${ids[3]}`.execute(query)
  expect(told).toHaveLength(1)
})

test('while somebody holds a snapshot, a look for what is due does not walk over what was', async () => {
  const { database } = tables
  const dump = await database.session('dump', { idle_in_transaction_session_timeout: 0 })
  await dump.query('begin isolation level repeatable read')
  await dump.query('select from notification')
  await queue(5_000)
  const floor = createDueFloor({ floorLagMs: 0, lookAtAllMs: 600_000 })
  const fifty = { lane: 'urgent' as const, limit: 50, leaseMs: 1 } // a count walks over the leases that ended later
  const sent = async (options: { floor?: typeof floor }) => {
    const claimed = (await claim({ ...fifty, ...options })).map(({ id }) => id)
    await sql`update notification set state = 'sent' where id = any(${claimed}::uuid[])`.execute(database.query)
    return claimed.length
  }
  let count = 0
  for (let more = await sent({ floor }); more > 0; more = await sent({ floor })) count += more
  expect(count).toBe(5_000)
  expect(await sent({ floor })).toBe(0) // now the floor is where the last look was
  await sql`analyze notification`.execute(database.query) // as it is done where a table grows
  /** Pages that a look asks for, of the table and of its indexes. */
  const pages = (look: (tx: Transaction<Tables>) => Promise<unknown>) =>
    database.transaction(async (tx) => {
      const asked = async () => {
        const { rows } = await sql<{ pages: bigint }>`
          select sum(pg_stat_get_xact_blocks_fetched(part)) as pages
          from unnest('{notification,notification_due_urgent,notification_open_of_user}'::regclass[]) as part`.execute(
          tx,
        )
        return Number(rows[0]?.pages)
      }
      const before = await asked() // those of earlier transactions are among them for a while
      await look(tx)
      return (await asked()) - before
    })
  const all = createDueFloor({ floorLagMs: 0, lookAtAllMs: 0 })
  const claimed = await pages((tx) => claimDue(tx, { ...fifty, floor }))
  expect(4 * claimed).toBeLessThan(await pages((tx) => claimDue(tx, fifty))) // 12 and 150
  const counted = await pages((tx) => backlog(tx, { urgent: floor, bulk: floor }))
  expect(4 * counted).toBeLessThan(await pages((tx) => backlog(tx, { urgent: all, bulk: all })))

  await queue(1, 60_000) // committed by somebody who took a minute
  const { urgentLate, bulkLate } = await database.transaction((tx) => backlog(tx, { urgent: all, bulk: all }))
  expect([urgentLate > 59, bulkLate]).toEqual([true, 0])
  expect([await sent({ floor }), await sent({})]).toEqual([0, 1])
  await dump.close()
})

test('now and then all there is is looked at', () => {
  const floor = createDueFloor({ floorLagMs: 0, lookAtAllMs: 0 })
  for (const dueAt of ['2026-01-01', '2026-01-02', '2026-01-03']) floor.looked(dueAt)
  expect(floor.from()).toBe('-infinity')
  const [lagging, following] = [600_000, 0].map((floorLagMs) => createDueFloor({ floorLagMs, lookAtAllMs: 600_000 }))
  for (const one of [lagging, following]) {
    expect(one?.from()).toBe('-infinity')
    for (const dueAt of ['2026-01-01', '2026-01-02', '2026-01-03']) one?.looked(dueAt)
  }
  expect([lagging?.from(), following?.from()]).toEqual(['-infinity', '2026-01-02'])
})
