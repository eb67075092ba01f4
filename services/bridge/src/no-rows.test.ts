import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { createDatabase, type Database } from '@shopstream/database'
import { createWorld, eventually, type World } from '@shopstream/testing'
import { buildBridge } from './app.ts'
import type { Tables } from './tables.ts'

let world: World
let database: Database<Tables>
beforeAll(async () => {
  world = await createWorld('bridge')
  const { settings, logger } = world
  database = createDatabase({ url: settings.DATABASE_URL, poolSize: 1, applicationName: 'look', logger })
})
afterAll(async () => {
  await database?.close()
  await world?.close()
})

test('a service without bridges is ready, opens nothing for them, and forgets those of an older table', async () => {
  const service = await buildBridge(world.settings, world.logger)
  await service.migrate?.()
  const old = {
    name: 'old',
    direction: 'send',
    kind: 'redis',
    events: [],
    seen_at: new Date(Date.now() - 60_000),
  } as const
  await database.query
    .insertInto('bridge')
    .values({ ...old, events: [], away_since: null, away_reason: null })
    .execute()
  await service.start()
  try {
    const troubles = async () => {
      const { checks } = (await service.http.inject('/readyz')).json()
      return checks
        .filter(({ status }: { status: string }) => status !== 'ok')
        .map(({ name }: { name: string }) => name)
    }
    // Nobody writes signing keys here.
    await eventually('it to be ready', async () => (await troubles()).join() === 'signing keys')
    const bridges = () => database.query.selectFrom('bridge').select('name').execute()
    await eventually('the old one to be forgotten', async () => (await bridges()).length === 0)
    expect((await service.http.inject('/metrics')).body).not.toContain('pool="bridges"')
  } finally {
    await service.stop()
  }
})

test("brokers' libraries are loaded for rows that name them alone", async () => {
  const app = pathToFileURL(join(import.meta.dirname, 'app.ts')).href
  const script = `
    import { registerHooks } from 'node:module'
    const names = new Set()
    registerHooks({ load(url, context, next) {
      names.add(/node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(url)?.[1])
      return next(url, context)
    } })
    await import(process.argv[1])
    console.log([...names].join(' '))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, app])
  const loaded = stdout.trim().split(' ')
  expect(loaded).toContain('kysely')
  const ofBrokers = /^(amqplib|@redis\/.*|@nats-io\/.*|cloudevents)$/
  expect(loaded.filter((name) => ofBrokers.test(name))).toEqual([])
})
