import { globSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { owners, readServices } from './services.ts'

test('the services that commands know are those that have topics and a database', async () => {
  const folders = globSync('services/*/src/owns.ts', { cwd: repository }).map((file) => basename(join(file, '../..')))
  expect([...owners].sort()).toEqual(folders.sort())
  expect((await readServices()).map(({ service }) => service)).toEqual(owners)
})
