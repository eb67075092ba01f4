import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'

test('each command of docs/commands.md can be called as it says', () => {
  const { scripts } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'))
  const page = readFileSync(join(repository, 'docs/commands.md'), 'utf8')
  const named = [...page.matchAll(/^\| `npm (?:run )?([a-z]+)(?: -- [^`]*)?`/gm)].map(([, name = '']) => name)
  expect(named.length).toBeGreaterThan(20)
  expect(named.filter((name) => !(name in scripts))).toEqual([])
})
