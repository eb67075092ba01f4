import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { normaliseEmail, parseRegistration, type RegistrationInput } from './account.ts'

const ana: RegistrationInput = { email: 'ana@example.com', password: 'correct horse battery', displayName: 'Ana' }
const fieldsOf = (input: Partial<RegistrationInput>) => {
  const parsed = parseRegistration({ ...ana, ...input })
  return 'problems' in parsed ? parsed.problems.map((problem) => problem.field) : []
}

test.each([
  ['ANA@Example.COM', 'ana@example.com'],
  ['  ana@example.com\n', 'ana@example.com'],
  ['ａｎａ@example.com', 'ana@example.com'], // full width
  ['STRASSE@example.com', 'strasse@example.com'],
  ['JOSE\u0301@example.com', 'josé@example.com'],
  ['ΑΝΑ@παράδειγμα.ΕΛ', 'ανα@παράδειγμα.ελ'],
])('%j is the account %s', (email, normalised) => {
  expect(normaliseEmail(email)).toBe(normalised)
  expect(parseRegistration({ ...ana, email })).toMatchObject({ email: normalised })
})

test('normalising twice changes nothing, and case makes no difference', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const once = normaliseEmail(text)
      expect(normaliseEmail(once)).toBe(once)
    }),
  )
  fc.assert(
    fc.property(fc.emailAddress(), (email) => {
      expect(normaliseEmail(email.toUpperCase())).toBe(normaliseEmail(email))
    }),
  )
})

test.each([
  'ana',
  '@example.com',
  'ana@',
  'ana@example',
  'a na@example.com',
  'ana@example.com, eve@example.com',
  'ana@example.com\r\nBcc: eve@example.com',
  'Ana <ana@example.com>',
  'ana@exa\u0000mple.com',
  `${'a'.repeat(65)}@example.com`,
  `ana@${'a'.repeat(250)}.com`,
])('%j is no email address', (email) => {
  expect(fieldsOf({ email })).toEqual(['email'])
})

test.each([
  ['Ana', 'Ana'],
  ['  Ana María  ', 'Ana María'],
  ['山田 太郎', '山田 太郎'],
  ['محمد', 'محمد'],
  ['Zoë 👩‍🚀', 'Zoë 👩‍🚀'],
  ['ক্‍ষ', 'ক্‍ষ'], // a joiner that belongs to the script
  ['👍'.repeat(100), '👍'.repeat(100)],
])('%j is a name', (displayName, stored) => {
  expect(parseRegistration({ ...ana, displayName })).toMatchObject({ displayName: stored.normalize('NFC') })
})

test.each([
  '',
  '   ',
  '\u200b\u200d',
  'Ana\nBcc: eve@example.com',
  'Ana\r',
  'Ana\tEve',
  'Ana\u0000',
  'Ana\u0085',
  'Ana\u2028Eve',
  'Ana\ud800',
  'x'.repeat(101),
])('%j is no name', (displayName) => {
  expect(new Set(fieldsOf({ displayName }))).toEqual(new Set(['displayName']))
})

test.each([
  ['x'.repeat(11), ['password']],
  ['x'.repeat(12), []],
  ['👍'.repeat(11), ['password']],
  ['密码'.repeat(128), []],
  ['x'.repeat(257), ['password']],
])('a password of %j has the problems %j', (password, fields) => {
  expect(fieldsOf({ password })).toEqual(fields)
})

test('all problems come at once', () => {
  expect(fieldsOf({ email: '', password: '', displayName: '' })).toEqual(['email', 'password', 'displayName'])
})
