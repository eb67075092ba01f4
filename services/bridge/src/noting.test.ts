import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, readMigrations, sql } from '@shopstream/database'
import { type TestDatabase, testDatabase, testLogger } from '@shopstream/testing'
import { forgetInstance, type Note, noteBridges } from './noting.ts'
import type { Tables } from './tables.ts'

let own: TestDatabase
let database: Database<Tables>
beforeAll(async () => {
  own = await testDatabase('noting')
  const logger = testLogger()
  database = createDatabase<Tables>({ url: own.url, poolSize: 4, applicationName: 'noting', logger })
  await migrate(database, readMigrations('bridge', import.meta.url))
}, 60_000)
afterAll(async () => {
  await database?.close()
  await own?.drop()
})

const [one, other] = ['0199a2b4-6c00-7000-8000-000000000001', '0199a2b4-6c00-7000-8000-000000000002']
const bridge = (name: string) => ({
  name,
  direction: 'send' as const,
  kind: 'redis',
  events: ['OrderPlaced' as const, 'OrderShipped' as const],
})
const note = (name: string, since?: string): Note => ({
  bridge: bridge(name),
  leavesOut: ['erp'],
  away: since ? { since: new Date(since), reason: `since ${since}` } : undefined,
})
const seen = () => database.query.selectFrom('bridge').selectAll().orderBy('name').execute()
const reasons = async () => (await seen()).map(({ name, away_reason }) => [name, away_reason])
const silent = (table: 'bridge' | 'bridge_instance', seconds: number) =>
  database.query
    .updateTable(table)
    .set({ seen_at: sql<Date>`now() - make_interval(secs => ${seconds})` })
    .execute()

test('a broker is away while it is for one instance, whoever speaks last', async () => {
  await noteBridges(database, one, [note('tasks', '2026-01-01T10:00:00Z')])
  await noteBridges(database, other, [note('tasks')])
  expect(await seen()).toEqual([
    {
      ...bridge('tasks'),
      leaves_out: ['erp'],
      away_since: new Date('2026-01-01T10:00:00Z'),
      away_reason: 'since 2026-01-01T10:00:00Z',
      seen_at: expect.any(Date),
    },
  ])
  await noteBridges(database, other, [note('tasks', '2026-01-01T09:00:00Z')])
  await noteBridges(database, one, [note('tasks', '2026-01-01T10:00:00Z')])
  expect(await reasons()).toEqual([['tasks', 'since 2026-01-01T09:00:00Z']]) // the longest
  await noteBridges(database, other, [note('tasks')])
  await noteBridges(database, one, [note('tasks')])
  expect(await reasons()).toEqual([['tasks', null]])
})

test('an instance that stops, or says nothing any more, is forgotten', async () => {
  await noteBridges(database, one, [note('tasks', '2026-01-01T10:00:00Z')])
  await forgetInstance(database, one)
  await noteBridges(database, other, [note('tasks')])
  expect(await reasons()).toEqual([['tasks', null]])
  await noteBridges(database, one, [note('tasks', '2026-01-01T10:00:00Z')])
  await silent('bridge_instance', 20)
  await noteBridges(database, other, [note('tasks')])
  expect(await reasons()).toEqual([['tasks', 'since 2026-01-01T10:00:00Z']])
  await silent('bridge_instance', 31)
  await noteBridges(database, other, [note('tasks')])
  expect(await reasons()).toEqual([['tasks', null]])
})

test('a bridge of one table alone stays, and is forgotten once no instance has it', async () => {
  await noteBridges(database, one, [note('old'), note('tasks')])
  await noteBridges(database, other, [note('new'), note('tasks')])
  expect((await seen()).map(({ name }) => name)).toEqual(['new', 'old', 'tasks'])
  await silent('bridge', 31)
  expect(await noteBridges(database, other, [note('new'), note('tasks')])).toEqual(['old'])
  expect((await seen()).map(({ name }) => name)).toEqual(['new', 'tasks'])
  await silent('bridge', 31)
  expect((await noteBridges(database, other, [])).toSorted()).toEqual(['new', 'tasks'])
  expect(await seen()).toEqual([])
})

test('two instances note at the same time', async () => {
  const names = Array.from({ length: 20 }, (_, n) => note(`b-${n}`))
  const rounds = Array.from({ length: 20 }, (_, n) =>
    noteBridges(database, n % 2 ? one : other, n % 2 ? names : names.toReversed()),
  )
  await Promise.all(rounds)
  expect(await seen()).toHaveLength(20)
})

test('two instances that were silent for long come back together', async () => {
  const notes = Array.from({ length: 20 }, (_, n) => note(`b-${n}`))
  for (let round = 0; round < 20; round++) {
    await silent('bridge_instance', 31)
    await silent('bridge', 31)
    await Promise.all([one, other].map((instance) => noteBridges(database, instance, notes)))
  }
  expect(await seen()).toHaveLength(20)
})
