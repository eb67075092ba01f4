/** One service is deployed while the others run, as docs/deploying.md says: each of them, to a version and back. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { topicOf } from '@shopstream/events'
import { eventually, repository, temporaryFolder } from '@shopstream/testing'
import { type Owner, owners } from '../../operations/shop-access.ts'
import { verify } from '../../operations/verify.ts'
import { readWiring, withSchemas } from '../../schemas/wiring.ts'
import { waitForRest } from '../chaos/at-rest.ts'
import { createClient } from '../chaos/client.ts'
import { liveAsCustomer, liveAsStaff, openShop } from '../chaos/customers.ts'
import { rolled } from '../chaos/inflictions.ts'
import { openLedger } from '../chaos/ledger.ts'
import { previousVersion, thisVersion, type Version } from '../chaos/previous-version.ts'
import { createRandom } from '../chaos/random.ts'
import { type Arena, openArena } from '../chaos/shop-under-chaos.ts'

const folder = temporaryFolder('deploying')
let arena: Arena
let previous: Version

beforeAll(async () => {
  previous = await previousVersion(join(folder, 'previous'))
  arena = await openArena({ folder, env: {}, progress: () => {}, signal: new AbortController().signal })
}, 180_000)

afterAll(async () => {
  await arena?.close()
  rmSync(folder, { recursive: true, force: true })
}, 60_000)

/** Customers and staff go on until the returned function is called; it returns what they were answered. */
async function busyDay() {
  const ledger = openLedger(join(folder, 'answers.jsonl'))
  const { shop } = arena
  const staff = createClient(shop.gatewayUrl, ledger, 'staff', shop.staff)
  await openShop(staff)
  const over = new AbortController()
  const lives = ['ada', 'bob', 'eve', 'joe'].map((name) => {
    const credentials = { email: `${name}@example.com`, password: `the password of ${name}` }
    const client = createClient(shop.gatewayUrl, ledger, name, credentials)
    return liveAsCustomer(client, credentials, createRandom(name), over.signal)
  })
  lives.push(liveAsStaff(staff, createRandom('staff'), over.signal))
  return async () => {
    over.abort()
    await Promise.all(lives)
    return ledger.operations
  }
}

test('each service is rolled to the version before and back, and both run side by side: nobody is refused and nothing is lost', async () => {
  const end = await busyDay()
  for (const owner of owners) {
    const second = await arena.startBeside(owner, previous)
    await eventually(`${owner} of ${previous.name} beside this one`, () => second.ready, { timeoutMs: 60_000 })
    await rolled(arena, owner, previous)
    await second.stop(5_000)
  }
  for (const owner of owners) await rolled(arena, owner, thisVersion)
  await rolled(arena, 'gateway', previous)
  await rolled(arena, 'gateway', thisVersion)
  const operations = await end()
  const wiring = withSchemas(await readWiring(repository))
  const consumed = wiring.map(({ service, consumes }) => [service, consumes.map(({ event }) => topicOf(event).name)])
  await waitForRest(arena, Object.fromEntries(consumed) as Record<Owner, string[]>)
  const answers = operations.flatMap(({ kind, attempts }) =>
    attempts.map(({ status, code }) => ({ kind, status, code })),
  )
  expect(answers.length).toBeGreaterThan(100)
  expect(answers.filter(({ status }) => status !== undefined && status >= 500)).toEqual([])
  const { checks } = await verify(arena.reach, { settleMs: 10_000 })
  expect(checks.flatMap(({ findings }) => findings)).toEqual([])
}, 300_000)
