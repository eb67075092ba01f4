import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { isInteger, NumberAsWritten, readJson } from './json.ts'

test('numbers of which JSON.parse would hide something keep their text, wherever they are', () => {
  const text = '{"a":1.0,"b":[1e3,9007199254740993,{"__proto__":1.5}],"c":[0,-1,9007199254740991],"1.0":"1.0"}'
  const json = readJson(text) as { b: [unknown, unknown, object] }
  const { b, ...others } = json
  expect(others).toEqual({ a: new NumberAsWritten('1.0'), c: [0, -1, 9007199254740991], '1.0': '1.0' })
  expect(b.slice(0, 2)).toEqual([new NumberAsWritten('1e3'), new NumberAsWritten('9007199254740993')])
  expect(Object.entries(b[2])).toEqual([['__proto__', new NumberAsWritten('1.5')]])
  expect(readJson('1.0')).toEqual(new NumberAsWritten('1.0'))
})

test('all else is as JSON.parse has it, and so is what becomes of it as JSON', () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      expect(JSON.stringify(readJson(text))).toBe(JSON.stringify(JSON.parse(text)))
    }),
  )
})

test.each(['', '{', '01', '1.', '.5', '+1', 'NaN', '[1.0,]', '{"a":1.0 "b"}', "'a'"])('%p is no JSON', (text) => {
  expect(() => readJson(text)).toThrow(SyntaxError)
})

test('long texts and deep ones end', () => {
  const depth = 200_000
  expect(Array.isArray(readJson(`${'['.repeat(depth)}1.0${']'.repeat(depth)}`))).toBe(true)
  const quotes = '\\"'.repeat(1_000_000)
  expect(readJson(`["${quotes}",1.0]`)).toHaveLength(2)
})

test.each<[json: unknown, bits: 32 | 64, verdict: boolean]>([
  [2 ** 31 - 1, 32, true],
  [2 ** 31, 32, false],
  [-(2 ** 31), 32, true],
  [2 ** 63, 64, false],
  [-(2 ** 63), 64, true],
  [1e300, 64, false],
  [0.5, 64, false],
  [Number.NaN, 64, false],
  ['1', 64, false],
  [readJson('1.0'), 32, false],
  [readJson('1e3'), 64, false],
  [readJson('9223372036854775807'), 64, true],
  [readJson('9223372036854775808'), 64, false],
  [readJson('-9223372036854775808'), 64, true],
  [readJson('9223372036854775807'), 32, false],
  [readJson('1'.repeat(100_000)), 64, false],
])('%p in %p bits: %p', (json, bits, verdict) => {
  expect(isInteger(json, bits)).toBe(verdict)
})
