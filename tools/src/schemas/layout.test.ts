import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { readSchemaFiles, workspace } from './files.ts'
import { layOut } from './layout.ts'

test('the files of the house are laid out, and come to the same from a single line', () => {
  for (const { path, text } of readSchemaFiles(workspace)) {
    expect({ path, text: layOut(text) }).toEqual({ path, text })
    expect({ path, text: layOut(JSON.stringify(JSON.parse(text))) }).toEqual({ path, text })
  }
})

test('only white space changes, and a second time nothing', () => {
  fc.assert(
    fc.property(fc.json(), fc.constantFrom(0, 3, '\t'), (json, space) => {
      const text = JSON.stringify(JSON.parse(json), null, space)
      const once = layOut(text)
      expect(JSON.stringify(JSON.parse(once))).toBe(JSON.stringify(JSON.parse(text)))
      expect(layOut(once)).toBe(once)
    }),
  )
})

test('numbers and the order of keys keep their words', () => {
  expect(layOut('{"default":1.0,"b":12345678901234567890,"2":1E3,"1":"\\u00e9 {,}"}')).toBe(
    '{ "default": 1.0, "b": 12345678901234567890, "2": 1E3, "1": "\\u00e9 {,}" }\n',
  )
})

test('a key twice is refused, as parsers differ in which they take', () => {
  expect(() => layOut('{"a":1,"b":{"\\u0061":1,"a":2}}')).toThrow('the key "a" is there twice')
})

test('160 columns, and no more, count from the margin', () => {
  const item = (length: number) => `{"name":"${'x'.repeat(length)}"}`
  const lines = (length: number) => layOut(`{"fields":[${item(length)}]}`).split('\n')
  expect(lines(142)[2]).toHaveLength(160)
  expect(lines(142)).toHaveLength(6)
  expect(lines(143)).toHaveLength(8)
})
