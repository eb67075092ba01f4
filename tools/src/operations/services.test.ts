import { expect, test } from '@jest/globals'
import { owners } from './reach.ts'
import { readServices, serviceNames } from './services.ts'

test('the services that commands know are those that have topics and a database', async () => {
  expect([...owners].sort()).toEqual(serviceNames)
  expect((await readServices()).map(({ service }) => service)).toEqual(serviceNames)
})
