import { expect, test } from '@jest/globals'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { headersOf, maxHeaders, readHeaders } from './headers.ts'
import { maxHeaderBytes } from './target.ts'

const read = (...lines: string[]) => readHeaders(Buffer.from(['NATS/1.0', ...lines, '', ''].join('\r\n')))

test('reads each line, whatever stands in it', () => {
  const lines = ['ce-id:a', 'ce-id: b', 'f oo: \t x ', 'ü: ☃:\n☃', 'no more', '__proto__: p', ': nameless', 'empty:']
  const headers = { 'ce-id': 'a', 'f oo': 'x', ü: '☃:\n☃', ['__proto__']: 'p', '': 'nameless', empty: '' }
  expect(read(...lines)).toEqual({ headers })
  expect(readHeaders(Buffer.alloc(0))).toEqual({ headers: {} })
})

test('reads up to its bounds, and nothing above them', () => {
  const many = Array.from({ length: maxHeaders }, (_, n) => `ce-${n}: ${n}`)
  expect(Object.keys(read(...many).headers)).toHaveLength(200)
  expect(read(...many, 'a: b')).toEqual({ headers: {}, unfit: 'it has 201 headers; up to 200 are read' })
  const frame = 'NATS/1.0\r\na:\r\n\r\n'.length
  expect(read(`a:${'x'.repeat(maxHeaderBytes - frame)}`).unfit).toBeUndefined()
  const unfit = 'its headers have 65537 bytes; up to 65536 are read'
  expect(read(`a:${'x'.repeat(maxHeaderBytes - frame + 1)}`)).toEqual({ headers: {}, unfit })
  expect(readHeaders(Buffer.from('a: \xff', 'latin1'))).toEqual({ headers: {}, unfit: 'its headers are no UTF-8' })
})

test('writes what is read as it was, and refuses the rest', () => {
  const contentType = 'a/b'
  const fitting = headersOf({ contentType, attributes: { a: '', b: 'a b', c: 'ü: ☃' } })
  const headers = { 'content-type': 'a/b', 'ce-a': '', 'ce-b': 'a b', 'ce-c': 'ü: ☃' }
  expect(read(...fitting.map(([name, value]) => `${name}: ${value}`))).toEqual({ headers })
  for (const odd of [' a', 'a ', 'a\nb', 'a\rb', '\ud800'])
    expect(() => headersOf({ contentType, attributes: { odd } })).toThrow(MessageRefused)
})
