import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, sql } from '@shopstream/database'
import { messagingMigrations } from '@shopstream/messaging'
import { type TestDatabase, testDatabase, testLogger } from '@shopstream/testing'
import { Refusal } from '../terminal/options.ts'
import { cameInAs } from './came-in.ts'

let own: TestDatabase
let database: Database<unknown>
beforeAll(async () => {
  own = await testDatabase('came_in')
  database = createDatabase<unknown>({ url: own.url, poolSize: 1, applicationName: 'came-in', logger: testLogger() })
  await migrate(database, messagingMigrations)
  await sql`create table received (source text, id text, received_at timestamptz default now(), event_id uuid)`.execute(
    database.query,
  )
})
afterAll(async () => {
  await database?.close()
  await own?.drop()
})

const eventId = '0199a2b4-6c00-7000-8000-000000000001'
const received = (source: string, id: string, event: string | null = eventId) =>
  sql`insert into received (source, id, event_id) values (${source}, ${id}, ${event})`.execute(database.query)
const parked = (offset: number, body: string, headers: object = {}) =>
  sql`insert into parked_message (topic, partition, "offset", key, bytes, headers, state, attempts, blocks)
    values ('inbound@erp', 0, ${offset}, null, ${Buffer.from(body)}, ${JSON.stringify(headers)}, 'dead', 1, false)`.execute(
    database.query,
  )

test('a message is found by the id of its sender, as the event that it became', async () => {
  await received('erp', '/erp/eu order 7')
  expect(await cameInAs(database, 'order 7')).toMatchObject({ source: 'erp', id: 'order 7', eventId })
  expect(await cameInAs(database, '7')).toBeUndefined()
})

test('what was taken in before its event was noted, and an id of two senders, are told', async () => {
  await received('erp', '/erp old', null)
  await expect(cameInAs(database, 'old')).rejects.toThrow('old came in from erp; its event was not noted then.')
  await received('erp', '/erp 8')
  await received('crm', '/crm 8')
  await expect(cameInAs(database, '8')).rejects.toThrow(/of several have the id 8.*\n.*erp: .*explain event 0199a2b4/)
})

test('what was parked is found by its id, and not by what else is in it', async () => {
  await parked(1, JSON.stringify({ id: 'a "b"', data: { other: 'c' } }))
  await parked(2, 'no JSON', { 'cloudEvents:id': 'd' })
  await parked(3, '"e" no JSON')
  for (const id of ['a "b"', 'd']) {
    const said = cameInAs(database, id)
    await expect(said).rejects.toThrow(Refusal)
    await expect(said).rejects.toThrow(
      /came in by bridge erp, which has parked it \(dead\).*\n.*dead-letters show bridge\//,
    )
  }
  for (const id of ['c', 'e', 'f']) expect(await cameInAs(database, id)).toBeUndefined()
})
