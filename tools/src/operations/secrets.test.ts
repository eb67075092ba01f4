import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals'
import { secrets } from './secrets.ts'
import { owners } from './services.ts'

let folder: string
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'shopstream-secrets-')), 'all')
  jest.spyOn(console, 'log').mockImplementation(() => {})
})
afterEach(() => {
  rmSync(join(folder, '..'), { recursive: true })
  for (const name of ['STAFF_PASSWORD', 'POSTGRES_PASSWORD']) delete process.env[name]
  jest.restoreAllMocks()
})

const read = (file: string) => readFileSync(join(folder, file), 'utf8').trimEnd()
const everything = () =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((file) => statSync(join(folder, file)).isFile())
      .map((file) => [file, read(file)]),
  )

test('each process gets its own at random, nobody but the owner gets in, and a second run changes nothing', async () => {
  await secrets([folder])
  const made = everything()
  expect(statSync(folder).mode & 0o777).toBe(0o700)
  for (const owner of owners) {
    expect(made[`${owner}/database-url`]).toMatch(new RegExp(`^postgres://${owner}:[\\w-]{43}@postgres:5432/${owner}$`))
    expect(made[`operator/${owner}-database-url`]).toBe(made[`${owner}/database-url`])
    expect(made[`deployment/${owner}-database-url`]).toBe(made[`${owner}/database-url`])
    expect(made[`${owner}/identity-secret`]).toBe(made['gateway/identity-secret'])
  }
  expect(made['deployment/postgres-url']).toContain(made['postgres/password'] ?? 'none')
  expect(Object.keys(made).filter((file) => file.startsWith('operator/'))).toHaveLength(owners.length)
  const distinct = new Set([
    ...owners.map((owner) => made[`${owner}/database-url`]),
    made['user/staff-password'],
    made['user/key-encryption-secret'],
  ])
  expect(distinct.size).toBe(owners.length + 2)
  await secrets([folder])
  expect(everything()).toEqual(made)
})

test('one that was removed, or is empty, is made anew, and its copies follow', async () => {
  await secrets([folder])
  const before = read('order/database-url')
  rmSync(join(folder, 'order/database-url'))
  rmSync(join(folder, 'gateway/identity-secret'))
  writeFileSync(join(folder, 'gateway/identity-secret'), '')
  await secrets([folder])
  expect(read('order/database-url')).not.toBe(before)
  expect(read('deployment/order-database-url')).toBe(read('order/database-url'))
  expect(read('gateway/identity-secret')).toHaveLength(43)
  expect(read('order/identity-secret')).toBe(read('gateway/identity-secret'))
})

test('the passwords of the environment are taken: that of the staff at any time, that of Postgres at first', async () => {
  process.env.POSTGRES_PASSWORD = 'of the first start'
  await secrets([folder])
  expect(read('postgres/password')).toBe('of the first start')
  Object.assign(process.env, { POSTGRES_PASSWORD: 'another', STAFF_PASSWORD: 'a new staff password' })
  await secrets([folder])
  expect(read('postgres/password')).toBe('of the first start')
  expect(read('user/staff-password')).toBe('a new staff password')
})
