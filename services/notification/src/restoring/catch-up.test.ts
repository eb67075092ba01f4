import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sql } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import { causeOfMailing, fillNext, insertMailing } from '../mailings/queries.ts'
import { openTestTables } from '../testing.ts'
import { catchUp } from './catch-up.ts'

let tables: Awaited<ReturnType<typeof openTestTables>>
beforeAll(async () => {
  tables = await openTestTables()
})
afterAll(() => tables.close())

/** That a mail was sent, for the `sequence`th time. */
const sent = (key: string, userId: string, kind: string, causeId: string, sequence: bigint) =>
  ({
    type: 'NotificationSent',
    key,
    sequence,
    data: { notificationId: key, userId, kind, causeId, messageId: '<a@b>', sentAt: new Date() },
  }) as Message<'NotificationSent'>

async function adopt(...messages: Message[]) {
  const [topic] = catchUp().topics
  await tables.database.transaction((tx) => topic?.adopt(tx, messages) as Promise<number>)
}

async function rowOf(id: string) {
  const { rows } = await sql`
    select state, sequence, resends, mailing_id, lane from notification where id = ${id}`.execute(tables.database.query)
  return rows[0]
}

test('resends that the restored table does not know are counted: the next one has a Message-ID of its own', async () => {
  const [known, unknown, user] = [newEventId(), newEventId(), newEventId()]
  const [cause, other] = [newEventId(), newEventId()]
  await adopt(sent(known, user, 'welcome', cause, 1n))
  expect(await rowOf(known)).toMatchObject({ sequence: 1n, resends: 0 })
  await adopt(sent(known, user, 'welcome', cause, 3n), sent(unknown, user, 'confirmed', other, 2n))
  expect(await rowOf(known)).toMatchObject({ state: 'sent', sequence: 3n, resends: 2 })
  expect(await rowOf(unknown)).toMatchObject({ state: 'sent', sequence: 2n, resends: 1 })
})

test('what nobody can bring back is said: who has opted out since', async () => {
  const lost = await tables.database.transaction((tx) => catchUp().settle(tx))
  expect(lost).toContainEqual(expect.stringContaining('opted out of mailings'))
})

test('a mailing goes on where it was restored, and mails nobody twice', async () => {
  const { database } = tables
  const users = [newEventId(), newEventId()].sort() as [string, string]
  const mailing = await database.transaction((tx) =>
    insertMailing(tx, { subject: 'News', text: 'None', createdBy: newEventId(), traceparent: null }),
  )
  await sql`insert into recipient (user_id, email, sequence)
    select user_id, 'a@example.com', 1 from unnest(${users}::uuid[]) as u (user_id)`.execute(database.query)
  const id = newEventId()
  await adopt(sent(id, users[0], 'mailing', causeOfMailing(mailing, users[0]), 1n))

  expect(await database.transaction((tx) => fillNext(tx, 10))).toBe(true)
  expect(await rowOf(id)).toMatchObject({ state: 'sent', mailing_id: mailing, lane: 'bulk' })
  const { rows } = await sql`
    select m.recipients, array_agg(n.state order by n.user_id) as states
    from mailing as m join notification as n on n.mailing_id = m.id where m.id = ${mailing} group by m.id`.execute(
    database.query,
  )
  expect(rows).toEqual([{ recipients: 2, states: ['sent', 'queued'] }])
})
