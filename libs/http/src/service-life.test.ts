import { expect, test } from '@jest/globals'
import { createDatabase } from '@shopstream/database'
import type { Messaging } from '@shopstream/messaging'
import { Registry } from '@shopstream/observability'
import { testDatabase, testLogger } from '@shopstream/testing'
import { createHttp } from './edge.ts'
import { serviceLife } from './service-life.ts'

const logger = testLogger()

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
  const messaging: Messaging = {
    checks: [],
    start: () => expect('the broker is connected to').toBe('never'),
    stop: async () => {},
    overloaded: () => undefined,
    hasPublished: async () => true,
  }
  const address = { host: '127.0.0.1', port: 0 }
  const service = serviceLife({ http, address, database, migrations: [], messaging, logger })
  try {
    await expect(service.start()).rejects.toThrow(/refuses the login.*see to host, user, password/)
  } finally {
    await service.stop()
    await own.drop()
  }
})
