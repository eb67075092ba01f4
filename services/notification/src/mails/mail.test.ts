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
  cancelled: { orderId },
}
const kinds = Object.keys(templates) as EventKind[]
const compose = (kind: EventKind, more: Facts = {}, recipient = { email: 'ana@example.com' }) =>
  composeMail('shop <shop@example.com>', {
    kind,
    causeId,
    facts: { ...facts[kind], ...more },
    createdAt: new Date('2026-01-01T00:00:00Z'),
    recipient,
  })

test.each(kinds)('the subject of %s says its kind and no other', (kind) => {
  const subject = subjectOf(kind, facts[kind])
  expect(kinds.filter((word) => subject.includes(word))).toEqual([kind])
  expect(kinds.filter((word) => subject.toLowerCase().includes(word))).toEqual([kind])
})

test.each(kinds)('%s has the facts in text and HTML', (kind) => {
  const { text, html, messageId } = compose(kind)
  const said = Object.values(facts[kind]).flat() as string[]
  for (const fact of said) {
    expect(text).toContain(fact)
    expect(html).toContain(fact.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'))
  }
  expect(messageId).toBe(messageIdOf(causeId))
})

test.each(kinds)('%s has no word of whoever registered, to whom nobody has shown that the address belongs', (kind) => {
  const stranger = { name: 'Win 500 EUR: https://win.example', email: 'win-500-eur.at.win.example@example.com' }
  const { to, ...mail } = compose(kind, { reason: stranger.name, name: stranger.name }, stranger)
  expect(to).toEqual({ name: '', address: stranger.email })
  expect(JSON.stringify(mail)).not.toContain('win')
  expect(JSON.stringify(mail)).not.toContain('Win')
})

test('markup in what people wrote is text', () => {
  const { html } = compose('shipped', { carrier: '<script>alert("1")</script> & \'so\'' })
  expect(html).not.toContain('<script>')
  expect(html).toContain('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;so&#39;')
})

test('no fact breaks out of its line or its element', () => {
  const nasty = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('a\r\nBcc: eve@example.com', '{orderId}', '{items}', '\u2028', '</p>', '$&', "$'", '\ud800'),
  )
  fc.assert(
    fc.property(nasty, nasty, (email, carrier) => {
      const { to, subject, text, html } = compose('shipped', { carrier }, { email })
      expect(to.address).not.toMatch(/[\r\n\u2028\u2029]/)
      expect(subject).toBe(`Order shipped: ${orderId}`)
      expect(text.split('\n')).toHaveLength(compose('shipped').text.split('\n').length)
      expect(html.match(/<[^>]*>/g)).toEqual(compose('shipped').html.match(/<[^>]*>/g))
      expect([to.address, text, html].every((each) => each.isWellFormed())).toBe(true)
    }),
  )
})

test('a template that names what a notification has not is an error', () => {
  expect(() => compose('shipped', { carrier: undefined })).toThrow('{carrier}')
})

const mailing = (subject: string, text: string, resends = 0) =>
  composeMail('shop <shop@example.com>', {
    kind: 'mailing',
    causeId,
    resends,
    subject,
    text,
    createdAt: new Date('2026-01-01T00:00:00Z'),
    recipient: { email: 'ana@example.com' },
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
