import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { applyBreak, provableWith, readGuarantees } from './document.ts'

const read = (file: string) => readFileSync(join(repository, file), 'utf8')
const guarantees = readGuarantees(repository)

describe('docs/guarantees.md is in step with the code', () => {
  test.each(guarantees.map((guarantee) => [guarantee.id, guarantee] as const))(
    '%s has its test, and its break applies',
    (_id, { test, breaks }) => {
      expect(read(test.file)).toContain(test.asWritten)
      for (const one of breaks) expect(applyBreak(read(one.file), one)).not.toBe(read(one.file))
    },
  )
})

test('a break of one client is not applied with another, which shows what the event core promises', () => {
  const adapter = (client: string) => ({
    file: `libs/messaging/src/broker/kafka/${client}/x.ts`,
    before: '',
    after: '',
  })
  const promise = (id: string, ...breaks: { file: string }[]) =>
    ({ id, breaks: breaks.map(({ file }) => ({ file, before: '', after: '' })) }) as (typeof guarantees)[number]
  const rows = [
    promise('both', adapter('kafkajs'), adapter('platformatic')),
    promise('one', adapter('platformatic')),
    promise('core', { file: 'libs/messaging/src/outbox/relay.ts' }),
    promise('service', { file: 'services/order/src/x.ts' }),
  ]
  const seen = (client: string, isUsual: boolean) =>
    provableWith(client, rows, isUsual).map(({ id, breaks }) => `${id} ${breaks.length}`)
  expect(seen('kafkajs', true)).toEqual(['both 1', 'core 1', 'service 1'])
  expect(seen('platformatic', false)).toEqual(['both 1', 'one 1', 'core 1'])
})

test('a break that no longer fits, or fits twice, is told', () => {
  const one = { file: 'a.ts', before: 'let a\n', after: 'let b\n' }
  expect(applyBreak('let a\nlet c\n', one)).toBe('let b\nlet c\n')
  expect(() => applyBreak('let c\n', one)).toThrow('is there 0 times')
  expect(() => applyBreak('let a\nlet a\n', one)).toThrow('is there 2 times')
})
