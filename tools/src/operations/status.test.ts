import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, sql } from '@shopstream/database'
import { type TestDatabase, testDatabase, testLogger } from '@shopstream/testing'
import { migrations } from '../../../services/notification/src/app.ts'
import { mailState } from './shop-state.ts'
import { mailProblems } from './status-problems.ts'

let ofNotification: TestDatabase
let database: Database<unknown>
beforeAll(async () => {
  ofNotification = await testDatabase('status')
  const logger = testLogger()
  database = createDatabase({ url: ofNotification.url, poolSize: 1, applicationName: 'status', logger })
  await migrate(database, migrations)
})
afterAll(async () => {
  await database.close()
  await ofNotification.drop()
})

const mail = (state: string, lane: string, [madeHoursAgo, dueHoursAgo]: [number, number], reason = '') =>
  sql`
    insert into notification (id, user_id, kind, cause_id, facts, subject, state, lane, created_at, next_attempt_at, last_error)
    select gen_random_uuid(), gen_random_uuid(), 'welcome', gen_random_uuid(), '{}', '', ${state}, ${lane},
      now() - ${madeHoursAgo} * interval '1 hour', now() - ${dueHoursAgo} * interval '1 hour', nullif(${reason}, '')
  `.execute(database.query)

const told = async () => {
  const answer = await mailState(database)
  return mailProblems({ mails: { answer } }).map(({ what }) => what)
}

test('a mail that fails today is told, whenever it was made; one that failed before yesterday is not', async () => {
  await mail('failed', 'urgent', [72, 30], 'SMTP 550')
  expect(await told()).toEqual([])
  await mail('failed', 'urgent', [48, 0], 'SMTP 554')
  expect(await told()).toEqual(['1 mail failed for good on the last day: SMTP 554 (1)'])
  await sql`delete from notification`.execute(database.query)
})

test('mails of a mailing that wait for their turn for long are told; those that wait for their next attempt are not', async () => {
  await mail('queued', 'bulk', [10, -1], 'SMTP 452')
  await mail('queued', 'bulk', [0.5, 0.5])
  expect(await told()).toEqual([])
  await mail('queued', 'bulk', [2, 2])
  expect(await told()).toEqual([
    expect.stringMatching(/^3 mails of mailings: the first has waited for its turn for 2 h/),
  ])
})
