import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { createDatabase, type Database, migrate, readMigrations, sql } from '@shopstream/database'
import type { EventTypes } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import { eventually, type TestDatabase, testDatabase, testLogger } from '@shopstream/testing'
import { exportJWK, generateKeyPair } from 'jose'
import { signingKeyConsumption } from './signing-key-consumption.ts'
import { signingKeys } from './signing-keys.ts'

type KeyEvent = 'SigningKeyPublished' | 'SigningKeyRetired'

const logger = testLogger()
const hourMs = 3_600_000

let own: TestDatabase
let database: Database<object>
let publicKey: string

beforeAll(async () => {
  own = await testDatabase('http-signing-keys')
  database = createDatabase({ url: own.url, poolSize: 3, applicationName: 'test', logger })
  await migrate(database, readMigrations('signing-key', import.meta.url))
  publicKey = JSON.stringify(await exportJWK((await generateKeyPair('EdDSA')).publicKey))
})

afterAll(async () => {
  await database?.close()
  await own?.drop()
})

beforeEach(async () => {
  await sql`truncate signing_key`.execute(database.query)
})

function message<N extends KeyEvent>(type: N, keyId: string, sequence: bigint, data: Partial<EventTypes[N]>): Message {
  const time = new Date()
  return {
    id: '',
    type,
    key: keyId,
    sequence,
    time,
    topic: '',
    partition: 0,
    offset: 0n,
    data: { keyId, ...data } as never,
  }
}

const published = (keyId: string, sequence = 1n, expiresAt = new Date(Date.now() + hourMs)) =>
  message('SigningKeyPublished', keyId, sequence, { algorithm: 'EdDSA', publicKey, activeFrom: new Date(), expiresAt })
const retired = (keyId: string, sequence = 2n) =>
  message('SigningKeyRetired', keyId, sequence, { retiredAt: new Date() })

const deliver = (...messages: Message[]) => database.transaction((tx) => signingKeyConsumption.handle(tx, messages))

test('is not ready before a key is known, then finds it', async () => {
  const keys = signingKeys(database)
  await expect(keys.check.check()).rejects.toThrow('no signing key')
  expect(await keys.find('k1')).toBeUndefined()
  await deliver(published('k1'))
  expect(await keys.find('k1')).toMatchObject({ type: 'public', algorithm: { name: 'Ed25519' } })
  await keys.check.check()
})

test('a retired key is refused from then on, whatever the order and number of deliveries', async () => {
  const keys = signingKeys(database)
  await deliver(published('k1'), published('k2'))
  expect(await keys.find('k1')).toBeDefined()
  await deliver(retired('k1'))
  expect(await keys.find('k1')).toBeUndefined()
  await deliver(published('k1'))
  expect(await keys.find('k1')).toBeUndefined()
  await deliver(published('k1'), retired('k1'))
  await deliver(retired('k3'), published('k3', 1n))
  expect(await keys.find('k1')).toBeUndefined()
  expect(await keys.find('k3')).toBeUndefined()
  expect(await keys.find('k2')).toBeDefined()
})

test('an expired key is refused', async () => {
  const keys = signingKeys(database)
  await deliver(published('old', 1n, new Date(Date.now() - 1)), published('soon', 1n, new Date(Date.now() + 300)))
  expect(await keys.find('old')).toBeUndefined()
  expect(await keys.find('soon')).toBeDefined()
  await eventually('the key has expired', async () => (await keys.find('soon')) === undefined)
})

test('unknown key ids ask the database once a second at most', async () => {
  let asked = 0
  const counting = new Proxy(database, {
    get(target, name) {
      if (name === 'query') asked++
      return Reflect.get(target, name)
    },
  })
  const begun = performance.now()
  const keys = signingKeys(counting)
  await keys.find('unknown')
  // Written behind the back of this process, as another instance does: no signal.
  await sql`insert into signing_key values ('k1', ${publicKey}::jsonb, now(), now() + interval '1 hour', false, 1)`.execute(
    database.query,
  )
  for (let i = 0; i < 1000; i++) expect(await keys.find(`unknown-${i}`)).toBeUndefined()
  await eventually('the key is found', async () => (await keys.find('k1')) !== undefined)
  expect(asked).toBeGreaterThan(1)
  expect(asked).toBeLessThanOrEqual(1 + (performance.now() - begun) / 1_000)
})
