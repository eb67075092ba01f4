import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { workspace } from './files.ts'
import { rules } from './findings.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'shopstream-commands-'))
  const record = (fields: object[]) => ({ type: 'record', name: 'Node', fields })
  const next = { name: 'next', type: ['null', 'Node'] }
  const files = {
    'one.avsc': record([next]),
    'two.avsc': record([next, { name: 'size', type: { type: 'bytes', logicalType: 'decimal', precision: 9 } }]),
    'none.avsc': { type: 'recrd' },
  }
  for (const [file, schema] of Object.entries(files)) writeFileSync(join(folder, file), JSON.stringify(schema))
  writeFileSync(join(folder, 'text.avsc'), 'no JSON')
  const withDefault = (type: string, text: string) =>
    `{"type":"record","name":"R","fields":[{"name":"x","type":"${type}","default":${text}}]}`
  writeFileSync(join(folder, 'real.avsc'), withDefault('int', '1.0'))
  writeFileSync(join(folder, 'beyond.avsc'), withDefault('long', '9223372036854775808'))
  writeFileSync(join(folder, 'longest.avsc'), withDefault('long', '9223372036854775807'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** Runs a command as npm would from `folder`. */
function schemas(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['tools/bootstrap.mjs', 'schemas', ...args], {
    cwd: workspace,
    env: { ...process.env, INIT_CWD: folder },
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

describe('check-pair', () => {
  test('of any schemas, recursive ones too: JSON alone on stdout', () => {
    const same = schemas('check-pair', 'one.avsc', join(folder, 'one.avsc'))
    expect({ ...same, stdout: JSON.parse(same.stdout) }).toEqual({
      status: 0,
      stdout: { compatible: true, incompatibilities: [] },
      stderr: '',
    })
    const { status, stdout } = schemas('check-pair', 'two.avsc', 'one.avsc')
    expect(status).toBe(1)
    expect(JSON.parse(stdout)).toEqual({
      compatible: false,
      incompatibilities: [
        {
          type: 'READER_FIELD_MISSING_DEFAULT_VALUE',
          readerPath: '/fields/1',
          writerPath: '/fields',
          message: expect.stringContaining('size'),
        },
      ],
    })
    expect(schemas('check-pair', 'one.avsc', 'two.avsc').status).toBe(0)
    expect(schemas('check-pair', 'longest.avsc', 'longest.avsc').status).toBe(0)
  })

  test.each([
    [['none.avsc', 'one.avsc'], 'no Avro schema: none.avsc'],
    [['one.avsc', 'none.avsc'], 'no Avro schema: none.avsc'],
    [['real.avsc', 'one.avsc'], 'the default 1.0 does not fit the type int'],
    [['one.avsc', 'beyond.avsc'], 'the default 9223372036854775808 does not fit the type long'],
    [['one.avsc', 'lost.avsc'], 'there is no file lost.avsc'],
    [['one.avsc', 'text.avsc'], 'text.avsc cannot be read'],
    [['one.avsc', '.'], '. cannot be read'],
    [['one.avsc'], 'takes two files'],
    [['one.avsc', 'one.avsc', 'one.avsc'], 'takes two files'],
    [['one.avsc', 'one.avsc', '--frob'], '--frob'],
  ])('%j is refused with 2', (args, words) => {
    const { status, stdout, stderr } = schemas('check-pair', ...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain(words)
  })
})

test.each(['check', 'check-pair', 'register', 'new', 'diff', 'generate', 'publish'])('%s has help', (command) => {
  const { status, stdout } = schemas(command, '--help')
  expect({ status, stdout }).toEqual({
    status: 0,
    stdout: expect.stringMatching(`^Usage: npm run (-s )?schemas -- ${command}`),
  })
  expect(schemas('--help').stdout).toContain(`  ${command} `)
})

test('the help of check tells every rule', () => {
  const { stdout } = schemas('check', '--help')
  for (const [name, { asks }] of Object.entries(rules)) {
    expect(stdout.split('\n').find((line) => line.slice(4).startsWith(`${name} `))).toContain(asks)
  }
})

test.each([
  [['frob'], 'There is no command frob.'],
  [[], 'Which command?'],
  [['check', '--frob'], '--frob'],
  [['check', '--base', 'no-such-ref'], 'there is no commit no-such-ref here'],
  [['diff'], 'diff takes an event'],
  [['diff', 'OrderLost'], 'there is no event OrderLost'],
  [['new', 'OrderRehearsed'], 'new takes one event and its --topic'],
  [['new', 'orderRehearsed', '--topic', 'shop.order.v1'], 'PascalCase'],
])('%j is refused with 2', (args, words) => {
  const { status, stderr } = schemas(...args)
  expect(status).toBe(2)
  expect(stderr).toContain(words)
})

test('check and diff speak JSON', () => {
  const check = schemas('check', '--json')
  expect(JSON.parse(check.stdout)).toEqual([])
  expect(check.status).toBe(0)
  expect(JSON.parse(schemas('diff', 'OrderPlaced', '1', '1', '--json').stdout)).toMatchObject({ event: 'OrderPlaced' })
  expect(schemas('generate', '--check').stdout).toBe('Generated files are fresh.\n')
})
