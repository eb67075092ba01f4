import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { topics } from '@shopstream/events'
import { UsageError } from '../terminal/options.ts'
import { register } from '../workspace/register.ts'
import { checkSchemas } from './check.ts'
import { layOut } from './layout.ts'
import { fingerprint, lockFile, printLock } from './lock.ts'
import { type Copy, copySchemas, type Json } from './testing.ts'
import { topicsLockFile } from './topics-lock.ts'

let copy: Copy
let notes: string[]
beforeEach(() => {
  copy = copySchemas(layOut)
  notes = []
})
afterEach(() => copy.drop())

const git = (...args: string[]) => {
  const identity = ['-c', 'user.name=test', '-c', 'user.email=test@example.com', '-c', 'commit.gpgsign=false']
  return execFileSync('git', [...identity, ...args], { cwd: copy.root, encoding: 'utf8', stdio: 'pipe' })
}
const commit = (message: string) => {
  git('add', '-A')
  git('commit', '-q', '-m', message)
}
const start = () => {
  git('init', '-q', '-b', 'main')
  commit('first')
}
const options = () => ({ root: copy.root, wiring: [], topics, note: (text: string) => notes.push(text) })
const messages = async (base?: string) =>
  (await checkSchemas({ ...options(), ...(base && { base }) })).map(({ rule, message }) => `${rule} ${message}`)

/** Alters a row so that the lock in itself is whole. */
const forge = (change: (schema: Json) => void) => {
  const lock = copy.lock().map((row: Json) => {
    if (row.subject !== 'shopstream.order.OrderShipped') return row
    change(row.schema)
    return { ...row, fingerprint: fingerprint(row.schema) }
  })
  copy.write(lockFile, printLock(lock))
}
const rename = (schema: Json) => {
  schema.fields.find(({ name }: Json) => name === 'carrier').name = 'haulier'
}

test('a row that was forged in a branch is found, by the commit where it left main', async () => {
  start()
  git('checkout', '-q', '-b', 'branch')
  forge(rename)
  copy.replace('schemas/order/OrderShipped.avsc', '"name": "carrier"', '"name": "haulier"')
  commit('forged')
  expect(await messages()).toEqual([
    expect.stringContaining(
      'lock-history row 100009 (shopstream.order.OrderShipped version 1) is not as it is in the merge base with main',
    ),
  ])
  expect(await messages('main')).toEqual([expect.stringContaining('is not as it is in main')])
  expect(await messages('HEAD')).toEqual([])
  expect(notes).toEqual([])
})

test('on main the last commit and the one before count', async () => {
  start()
  forge(rename)
  copy.replace('schemas/order/OrderShipped.avsc', '"name": "carrier"', '"name": "haulier"')
  expect(await messages()).toEqual([expect.stringContaining('is not as it is in HEAD:')])
  commit('forged')
  expect(await messages()).toEqual([expect.stringContaining('is not as it is in HEAD^:')])
})

test('rows that were removed, golden bytes that were altered or removed, a topics lock that was altered', async () => {
  start()
  const last = copy.lock().at(-1)?.id
  copy.write(lockFile, printLock(copy.lock().slice(0, -1)))
  copy.write('schemas/golden/shopstream.order.OrderPlaced.v1.json', '{"schemaId":1}')
  copy.remove('schemas/golden/shopstream.order.OrderShipped.v1.json')
  copy.replace(topicsLockFile, '"partitions":6', '"partitions":7')
  const found = (await messages()).join('\n')
  expect(found).toContain(`lock-history row ${last}`)
  expect(found).toContain('golden is not as it is in HEAD')
  expect(found).toContain('lock-history shop.user.v1 is not as it is in HEAD')
  const paths = (await checkSchemas(options())).filter(({ rule }) => rule === 'golden').map(({ path }) => path)
  expect(paths).toEqual(
    expect.arrayContaining([
      'schemas/golden/shopstream.order.OrderPlaced.v1.json',
      'schemas/golden/shopstream.order.OrderShipped.v1.json',
    ]),
  )
})

test('what is appended in a branch is fine, and may be registered again before it is merged', async () => {
  start()
  git('checkout', '-q', '-b', 'branch')
  const before = copy.read(lockFile)
  const golden = 'schemas/golden/shopstream.order.OrderShipped.v2.json'
  const add = (name: string) =>
    copy.edit('schemas/order/OrderShipped.avsc', ({ fields }) =>
      fields.push({ name, doc: 'A note.', type: ['null', 'string'], default: null }),
    )
  add('fieldOfATest')
  await register(options())
  commit('note')
  expect(await messages()).toEqual([])
  copy.write(lockFile, before)
  copy.remove(golden)
  add('remark')
  await register(options())
  expect(await messages()).toEqual([])
})

test('says when there is nothing to compare with', async () => {
  expect(await messages()).toEqual([])
  expect(notes.pop()).toContain('no git repository here')
  await expect(messages('main')).rejects.toThrow(UsageError)
  git('init', '-q', '-b', 'elsewhere')
  expect(await messages()).toEqual([])
  expect(notes.pop()).toContain('no commit in it')
  commit('first')
  expect(await messages()).toEqual([])
  expect(notes.pop()).toContain(
    'there is no main here (git fetch origin main), so the locks were compared with HEAD alone',
  )
  await expect(messages('v9')).rejects.toThrow('there is no commit v9 here')
})
