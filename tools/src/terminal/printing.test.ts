import { afterEach, expect, jest, test } from '@jest/globals'
import { bad, toJson } from './format.ts'
import { headerInWords, keyInWords, print, printable, shopWith, shown, typeInWords } from './printing.ts'

afterEach(() => void jest.restoreAllMocks())

/** Clears the screen, sets the title, colours, turns the text around; also by what is one character. */
const hostile = ['\u001b[2J', '\u001b]0;x\u0007', '\u001b[8m', '\u009b2J', '\u202e', '\u2066', '\u007f', '\r', '\b']

test.each(hostile)('a terminal obeys nothing of %j', (text) => {
  const printed: string[] = []
  jest.spyOn(console, 'log').mockImplementation((line) => void printed.push(String(line)))
  print(`before ${text} after\n\tnext`)
  const all = [...printed, shown(`${text}x`), printable(text), keyInWords(text), headerInWords(text), typeInWords(text)]
  for (const one of [...all, toJson({ [text]: text })])
    for (const c of text) if (/[\p{Cc}\u202e\u2066]/u.test(c)) expect(one).not.toContain(c)
  expect(printed[0]).toMatch(/^before .* after\n\tnext$/s)
  expect(JSON.parse(toJson({ [text]: text }))).toEqual({ [text]: text })
})

test('colours of our own are printed, lines stay in one-line texts, long ones are cut', () => {
  const log = jest.spyOn(console, 'log').mockImplementation(() => {})
  print(`${bad('wrong')}\nnext`)
  expect(log).toHaveBeenCalledWith(`${bad('wrong')}\nnext`)
  expect(shown('one\ntwo')).toBe('one\ufffdtwo')
  expect(shown('x'.repeat(300))).toBe(`${'x'.repeat(200)}... (300 characters)`)
})

test.each([
  [null, 'no key'],
  ['', 'an empty key'],
  ['\u001fkey:__4A', 'a key of bytes (key:__4A)'],
  ['sku-1', 'sku-1'],
])('key %j is told as %j', (key, words) => expect(keyInWords(key)).toBe(words))

test.each([
  ['01a2-b', 'explain 01a2-b'],
  ['a b', "explain 'a b'"],
  ["x'; rm -rf ~; '", "explain 'x'\\''; rm -rf ~; '\\'''"],
  ['$(reboot)', "explain '$(reboot)'"],
])('%j can be pasted into a shell: %s', (key, command) => {
  expect(shopWith('explain', key)).toBe(`npm run shop -- ${command}`)
})

test.each(['', '--all', 'a\u001b[2J', 'a\nb'])('nobody is told to type %j', (key) =>
  expect(shopWith('explain', key)).toBeUndefined(),
)
