import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { EventKind, Facts } from '../tables.ts'
import { composeMail, messageIdOf, subjectOf } from './mail.ts'
import { templates } from './templates.ts'

const orderId = '01900000-0000-7000-8000-000000000001'
const causeId = '01900000-0000-7000-8000-00000000000c'
const facts: Record<EventKind, Facts> = {
  welcome: {},
  confirmed: { orderId, items: ['2 × tea at €6.25'], total: '€12.50' },
  rejected: { orderId, items: ['tea: 5 ordered, 2 in stock'] },
  shipped: { orderId, carrier: 'Post & Sons', trackingNumber: 'RR123<4>' },
  cancelled: { orderId, reason: 'changed my mind' },
}
const kinds = Object.keys(templates) as EventKind[]
const compose = (kind: EventKind, name = 'Ana', more: Facts = {}) =>
  composeMail('shop <shop@example.com>', {
    kind,
    causeId,
    facts: { ...facts[kind], ...more },
    createdAt: new Date('2026-01-01T00:00:00Z'),
    recipient: { email: 'ana@example.com', name },
  })

test.each(kinds)('the subject of %s says its kind and no other', (kind) => {
  const subject = subjectOf(kind, facts[kind])
  expect(kinds.filter((word) => subject.includes(word))).toEqual([kind])
  expect(kinds.filter((word) => subject.toLowerCase().includes(word))).toEqual([kind])
})

test.each(kinds)('%s has the facts in text and HTML', (kind) => {
  const { text, html, messageId } = compose(kind)
  const said = Object.values(facts[kind]).flat() as string[]
  for (const fact of [...said, 'Ana']) {
    expect(text).toContain(fact)
    expect(html).toContain(fact.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'))
  }
  expect(messageId).toBe(messageIdOf(causeId))
})

test('markup in what people wrote is text', () => {
  const { html } = compose('cancelled', '<b>Ana</b>', { reason: '<script>alert("1")</script> & \'so\'' })
  expect(html).not.toContain('<script>')
  expect(html).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;so&#39;')
  expect(html).toContain('&lt;b&gt;Ana&lt;/b&gt;')
})

test('no fact and no name breaks out of its line or its element', () => {
  const nasty = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('a\r\nBcc: eve@example.com', '{orderId}', '{items}', '\u2028', '</p>', '$&', "$'", '\ud800'),
  )
  fc.assert(
    fc.property(nasty, nasty, (name, reason) => {
      const { to, subject, text, html } = compose('cancelled', name, { reason })
      expect(to.name).not.toMatch(/[\r\n\u2028\u2029]/)
      expect(subject).toBe(`Order cancelled: ${orderId}`)
      expect(text.split('\n')).toHaveLength(compose('cancelled').text.split('\n').length)
      expect(html.match(/<[^>]*>/g)).toEqual(compose('cancelled').html.match(/<[^>]*>/g))
      expect([to.name, text, html].every((each) => each.isWellFormed())).toBe(true)
    }),
  )
})

test('a template that names what a notification has not is an error', () => {
  expect(() => compose('shipped', 'Ana', { carrier: undefined })).toThrow('{carrier}')
})

const mailing = (subject: string, text: string, resends = 0) =>
  composeMail('shop <shop@example.com>', {
    kind: 'mailing',
    causeId,
    resends,
    subject,
    text,
    createdAt: new Date('2026-01-01T00:00:00Z'),
    recipient: { email: 'ana@example.com', name: 'Ana' },
  })

test('a mailing is what staff wrote, in paragraphs and lines, and placeholders are nothing to it', () => {
  const { subject, text, html, headers } = mailing('News for {name}', 'Hello,\r\n<b>all</b>\n\n\n  & {email}\n')
  expect(subject).toBe('News for {name}')
  expect(text).toBe('Hello,\n<b>all</b>\n\n& {email}\n\n-- \nshopstream\n')
  expect(html).toContain('<p>Hello,<br>\n&lt;b&gt;all&lt;/b&gt;</p>\n<p>&amp; {email}</p>')
  expect(headers).toMatchObject({ Precedence: 'bulk' })
})

test('each time that staff have a mail sent again makes another Message-ID, and always the same', () => {
  const ids = [0, 1, 2, 2].map((resends) => mailing('News', 'text', resends).messageId)
  expect(ids).toEqual([messageIdOf(causeId), messageIdOf(causeId, 1), messageIdOf(causeId, 2), messageIdOf(causeId, 2)])
  expect(new Set(ids).size).toBe(3)
})
