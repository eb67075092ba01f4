import { parseArgs } from 'node:util'
import { expect, test } from '@jest/globals'
import { argumentsProblem } from './options.ts'

const options = {
  key: { type: 'string', short: 'k' },
  json: { type: 'boolean' },
} as const

test.each([
  [['--bogus'], 'There is no option --bogus.'],
  [['-x'], 'There is no option -x.'],
  [["--it's"], "There is no option --it's."],
  [['--key'], '--key needs a value.'],
  [['-k'], '--key needs a value.'],
  [['--key', '--json'], '--key needs a value; one that begins with - is written as --key=-VALUE.'],
  [['-k', '--json'], '-k needs a value; one that begins with - is written as -k-VALUE.'],
  [['--json=1'], '--json takes no value.'],
  [['order'], 'It takes no argument order.'],
])('%j: %s', (args, sentence) => {
  expect(() => {
    try {
      parseArgs({ args, options })
    } catch (error) {
      throw new Error(argumentsProblem(error))
    }
  }).toThrow(new Error(sentence))
})

test('other errors are no problem of arguments', () => {
  expect(argumentsProblem(new Error('no'))).toBeUndefined()
  expect(argumentsProblem(Object.assign(new Error('no'), { code: 'ENOENT' }))).toBeUndefined()
})
