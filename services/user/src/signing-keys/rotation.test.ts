import { afterEach, expect, test } from '@jest/globals'
import { createDatabase, sql } from '@shopstream/database'
import { createWorld, eventually } from '@shopstream/testing'
import { decodeProtectedHeader } from 'jose'
import type { Tables } from '../tables.ts'
import { published, startUser } from '../testing.ts'

const undo: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

test('two instances publish the next key ahead of its use, change over to it, and retire the old one', async () => {
  const world = await createWorld('user')
  undo.push(() => world.close())
  const settings = { SIGNING_KEY_LEAD_SECONDS: 2, ACCESS_TOKEN_SECONDS: 30 }
  const [user, other] = await Promise.all([startUser(world, settings), startUser(world, settings)])
  undo.push(user.stop, other.stop)
  const url = world.settings.DATABASE_URL
  const database = createDatabase<Tables>({ url, poolSize: 1, applicationName: 'test', logger: world.logger })
  undo.push(() => database.close())
  const keys = () => published(world, 'SigningKeyPublished')
  /** As if the keys had been made this much earlier. */
  const letPass = (interval: string) =>
    sql`
      update signing_key_pair
      set active_from = active_from - ${interval}::interval, expires_at = expires_at - ${interval}::interval
    `.execute(database.query)

  const account = { email: 'ana@example.com', password: 'correct horse battery' }
  await user.call('POST', '/v1/users', { ...account, displayName: 'Ana' })
  const login = async (at = user) => {
    const token: string = (await at.call('POST', '/v1/sessions', account)).body.accessToken
    return { token, keyId: decodeProtectedHeader(token).kid }
  }
  const me = async (token: string, at = user) => (await at.call('GET', '/v1/users/me', undefined, token)).status

  const old = await login()
  await letPass('29 days 23:59:56') // of the 30 days that a key signs
  await eventually('the next key', () => keys().length === 2)
  const next = keys().find(({ key }) => key !== old.keyId)
  if (!next) throw new Error('the next key is the old one')
  expect(next.data.activeFrom.getTime() - next.time.getTime()).toBeGreaterThan(0)
  const early = await login()
  if (new Date() < next.data.activeFrom) expect(early.keyId).toBe(old.keyId) // a busy machine may be late

  for (const instance of [user, other]) {
    const now = await eventually('a token by the next key', async () => {
      const now = await login(instance)
      return now.keyId === next.key && now
    })
    expect(Date.now()).toBeGreaterThanOrEqual(next.data.activeFrom.getTime())
    if (!now) throw new Error('unreachable')
    expect([await me(now.token, user), await me(now.token, other)]).toEqual([200, 200])
  }
  expect(await me(old.token)).toBe(200)

  await letPass('00:01:31') // the last token has expired, by any clock
  await eventually('the retirement', () => published(world, 'SigningKeyRetired').length === 1)
  expect(published(world, 'SigningKeyRetired')[0]).toMatchObject({ key: old.keyId, sequence: 2n })
  await eventually('the old key being forgotten', async () => (await me(old.token)) === 401)
  expect((await login()).keyId).toBe(next.key)
  expect(keys()).toHaveLength(2)
})
