/** One service is deployed while the others run, as docs/deploying.md says: each of them, to a version and back. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { eventually, temporaryFolder } from '@shopstream/testing'
import { owners } from '../../operations/shop-access.ts'
import { verify } from '../../operations/verify.ts'
import { consumedTopics, waitForRest } from '../chaos/at-rest.ts'
import { refusedByServer, startBusyDay } from '../chaos/busy-day.ts'
import { rolled } from '../chaos/inflictions.ts'
import { previousVersion, thisVersion, type Version } from '../chaos/previous-version.ts'
import { type Arena, openArena } from '../chaos/shop-under-chaos.ts'

const folder = temporaryFolder('deploying')
let arena: Arena
let previous: Version

beforeAll(async () => {
  previous = await previousVersion(join(folder, 'previous'))
  // Where other tests take the processor, a start takes longer than the 8 s that the gateway waits by itself.
  const env = { SERVICE_WAIT_MS: '60000' }
  arena = await openArena({ folder, env, progress: () => {}, signal: new AbortController().signal })
}, 180_000)

afterAll(async () => {
  await arena?.close()
  rmSync(folder, { recursive: true, force: true })
}, 60_000)

test('each service is rolled to the version before and back, and both run side by side: nobody is refused and nothing is lost', async () => {
  const end = await startBusyDay(arena.shop, join(folder, 'answers.jsonl'))
  for (const owner of owners) {
    const second = await arena.startBeside(owner, previous)
    await eventually(`${owner} of ${previous.name} beside this one`, () => second.ready, { timeoutMs: 60_000 })
    await rolled(arena, owner, previous)
    await second.stop(5_000)
  }
  for (const owner of owners) await rolled(arena, owner, thisVersion)
  await rolled(arena, 'gateway', previous)
  await rolled(arena, 'gateway', thisVersion)
  const answers = await end()
  await waitForRest(arena, await consumedTopics())
  expect(answers.length).toBeGreaterThan(100)
  expect(refusedByServer(answers)).toEqual([])
  const { checks } = await verify(arena.reach, { settleMs: 10_000 })
  expect(checks.flatMap(({ findings }) => findings)).toEqual([])
}, 300_000)
