import { expect, test } from '@jest/globals'
import { createDatabase } from '@shopstream/database'
import type { Messaging } from '@shopstream/messaging'
import { Registry } from '@shopstream/observability'
import { eventually, testDatabase, testLogger } from '@shopstream/testing'
import { Type } from 'typebox'
import { createHttp, reply, route } from './edge.ts'
import { serviceLife } from './service-life.ts'

const logger = testLogger()

const idle = {
  checks: [],
  start: () => {},
  stop: async () => {},
  overloaded: () => undefined,
  hasPublished: async () => true,
} as unknown as Messaging

test.each([
  ['DATABASE_URL', true],
  ['DATABASE_DIRECT_URL', false],
])('a login that %s leads to, and that is refused for good, ends the start in words', async (_, isDirectRight) => {
  const own = await testDatabase('service-life')
  const wrong = new URL(own.url)
  wrong.password = 'wrong'
  const [url, directUrl] = isDirectRight ? [wrong.href, own.url] : [own.url, wrong.href]
  const database = createDatabase({ url, directUrl, poolSize: 2, applicationName: 'test', logger })
  const http = await createHttp({
    service: 'test',
    title: 'test',
    routes: [],
    database,
    checks: [],
    logger,
    metrics: new Registry(),
  })
  const messaging = { ...idle, start: () => expect('the broker is connected to').toBe('never') }
  const address = { host: '127.0.0.1', port: 0 }
  const service = serviceLife({ http, address, database, migrations: [], messaging, logger })
  try {
    await expect(service.start()).rejects.toThrow(/refuses the login.*see to host, user, password/)
  } finally {
    await service.stop()
    await own.drop()
  }
})

/** What a request gets that comes while the service begins, and one that comes after that. */
async function statusesAround(work: () => Promise<void>): Promise<number[]> {
  const own = await testDatabase('service-life')
  const begun = Promise.withResolvers<undefined>()
  const database = createDatabase({ url: own.url, poolSize: 2, applicationName: 'test', logger })
  const thing = route({
    method: 'GET',
    url: '/v1/things',
    summary: 'Shows that it has begun',
    access: 'anyone',
    schema: { response: { 200: Type.Object({}) } },
    handle: async () => reply.ok({}),
  })
  const metrics = new Registry()
  const http = await createHttp({
    service: 'test',
    title: 'test',
    routes: [thing],
    database,
    checks: [],
    logger,
    metrics,
  })
  const address = { host: '127.0.0.1', port: 0 }
  const begin = () => begun.promise
  const service = serviceLife({ http, address, database, migrations: [], messaging: idle, logger, begin })
  try {
    const starting = service.start()
    await eventually('it listens', () => http.server.listening)
    const ask = () => http.inject('/v1/things').then(({ statusCode }) => statusCode)
    const early = ask()
    await Promise.race([early, work()])
    begun.resolve(undefined)
    await starting
    return [await early, await ask()]
  } finally {
    await service.stop()
    await own.drop()
  }
}

test('a request waits for a start, and is refused when that takes long', async () => {
  expect(await statusesAround(async () => {})).toEqual([200, 200])
  expect(await statusesAround(() => new Promise(() => {}))).toEqual([503, 200])
}, 30_000)
