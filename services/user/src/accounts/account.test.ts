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
  ['ΑΝΑ@παράδειγμα.ΕΛ', 'ανα@xn--hxajbheg2az3al.xn--qxam'],
  ['ana@bücher.example', 'ana@xn--bcher-kva.example'],
  ['ana@XN--Bcher-KVA.example', 'ana@xn--bcher-kva.example'],
  ['ana@bu\u0308cher.example', 'ana@xn--bcher-kva.example'],
  ['ana@ｂücher．example', 'ana@xn--bcher-kva.example'],
  ['ana@例え。jp', 'ana@xn--r8jz45g.jp'],
  ['ana@faß.de', 'ana@xn--fa-hia.de'], // not fass.de, which is somebody else's
  ["o'brien+news_1/x=y@mail.example-shop.co.uk", "o'brien+news_1/x=y@mail.example-shop.co.uk"],
  [`${'é'.repeat(32)}@${'a'.repeat(63)}.com`, `${'é'.repeat(32)}@${'a'.repeat(63)}.com`],
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
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (label) => {
      const once = normaliseEmail(`ana@${label}.example`)
      expect(normaliseEmail(once)).toBe(once)
      expect(normaliseEmail(`ana@${label.normalize('NFD')}.example`)).toBe(once)
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
  'a..b@example.com',
  '.a@example.com',
  'a.@example.com',
  'ana@.example.com',
  'ana@example..com',
  'ana@example.com.',
  'ana@-example.com',
  'ana@example-.com',
  'ana@exa_mple.com',
  `ana@${'a'.repeat(64)}.com`,
  `ana@${'ü'.repeat(60)}.com`, // 64 in Punycode
  'ana@xn--a.com', // no Punycode
  'ana@192.0.2.1',
  'ana@0x7f.1',
  'ana@[192.0.2.1]',
  'ana@[IPv6:2001:db8::1]',
  '"ana maria"@example.com',
  'ana(comment)@example.com',
  'ana@(comment)example.com',
  'ana@ex%61mple.com',
  'ana@example.com/path',
  'ana@example.com:25',
  'ana\u3164@example.com',
  'ana\u2800@example.com',
  'ana\u{13441}@example.com',
  'ana\u{13442}@example.com',
  'ana\u{1d159}@example.com',
  'ana\ufffc@example.com',
  'ana\u200b@example.com',
  'ana\u202e@example.com',
  `${'a'.repeat(65)}@example.com`,
  `${'é'.repeat(33)}@example.com`, // 66 octets
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
  ['דן\u200f 2', 'דן\u200f 2'], // and a mark
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
  '\u3164',
  '\u2800',
  ' \u115f\u1160\uffa0 ',
  '\ufeff',
  '\u00ad',
  '\ufe0f',
  '\u{1d159}',
  '\u0301',
  'Ana\u202egnp.exe',
  'Ana\u202a',
  '\u2066Ana\u2069',
])('%j is no name', (displayName) => {
  expect(new Set(fieldsOf({ displayName }))).toEqual(new Set(['displayName']))
})

test('symbols without ink are no name, and beside others they are', () => {
  for (const blank of ['\u2800', '\ufffc', '\u{13441}', '\u{13442}', '\u{1d159}', '\u{13441} \u{13442}\u200b']) {
    expect(parseRegistration({ ...ana, displayName: blank })).toHaveProperty('problems')
    expect(parseRegistration({ ...ana, displayName: `a${blank}b` })).toMatchObject({ displayName: `a${blank}b` })
  }
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
