import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { repository, runCommand } from '@shopstream/testing'
import { fits, licenceOf } from './licences.ts'

test.each([
  ['MIT', true],
  ['(MIT OR GPL-3.0-only)', true],
  ['Apache-2.0 AND MIT', true],
  ['MIT AND LGPL-2.1-only', false],
  ['AGPL-3.0-only', false],
  ['SEE LICENSE IN LICENSE', false],
  ['UNLICENSED', false],
])('%s fits MIT: %s', (expression, does) => {
  expect(fits(expression)).toBe(does)
})

test('a licence is found in each form in which packages say it; where none is said, it is not known, which does not fit', () => {
  const named = { name: 'a', version: '1.0.0' }
  expect(licenceOf({ ...named, license: 'ISC' })).toBe('ISC')
  expect(licenceOf({ ...named, license: { type: 'MIT' } })).toBe('MIT')
  expect(licenceOf({ ...named, licenses: [{ type: 'MIT' }, { type: 'GPL-2.0' }] })).toBe('MIT OR GPL-2.0')
  expect(fits(licenceOf(named))).toBe(false)
})

test('the bill of an image has what is in it, with the versions of the lock file, and nothing for development', async () => {
  const printed = await runCommand(process.execPath, ['tools/src/commands/packages.ts', 'sbom', 'user'], {
    cwd: repository,
  })
  const { bomFormat, components, dependencies } = JSON.parse(printed)
  const { packages } = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8'))
  expect(bomFormat).toBe('CycloneDX')
  const byName = new Map(components.map(({ name, version }: { name: string; version: string }) => [name, version]))
  for (const name of ['fastify', 'kafkajs', 'pg', 'avsc', '@node-rs/argon2', '@fastify/swagger-ui'])
    expect([name, byName.get(name)]).toEqual([name, packages[`node_modules/${name}`].version])
  for (const name of ['jest', 'typescript', 'esbuild', '@shopstream/testing'])
    expect([name, byName.has(name)]).toEqual([name, false])
  const refs = new Set(components.map((component: { 'bom-ref': string }) => component['bom-ref']))
  const all = dependencies.flatMap(({ dependsOn }: { dependsOn: string[] }) => dependsOn)
  expect(all.filter((ref: string) => !refs.has(ref))).toEqual([])
}, 60_000)
