import type { EventKind, Facts } from '../tables.ts'
import { templates } from './templates.ts'

/** A mail ready for the SMTP client, which encodes names and texts of any script. */
export interface Mail {
  from: string
  /** Without a name, which is the registered person's text (see templates.ts); as an object it is never parsed. */
  to: { name: ''; address: string }
  subject: string
  messageId: string
  date: Date
  text: string
  html: string
  headers: Record<string, string>
}

/** What a mail is made from. */
export type MailSource = {
  causeId: string
  /** How often staff had it sent again; default 0. */
  resends?: number
  /** When it was made, or asked for again, not when it is sent, so that a repeated mail is the same to the byte. */
  createdAt: Date
  recipient: { email: string }
} & (
  | { kind: EventKind; facts: Facts }
  | { kind: 'mailing'; subject: string; text: string; optOutLink?: string | undefined }
)

/**
 * The `Message-ID` of the mail for a cause: the same for every attempt, so that a repeated mail is seen to be one. A mail
 * that staff have sent again is meant to arrive again, so the number of its resending makes another id.
 */
export const messageIdOf = (causeId: string, resends = 0) =>
  `<${causeId}${resends > 0 ? `.${resends}` : ''}@shopstream.local>`

/** The subject of a kind of mail. */
export const subjectOf = (kind: EventKind, facts: Facts) => oneLine(fill(templates[kind].subject, facts))

/** Writes the mail for a notification, as text and as HTML. */
export function composeMail(from: string, source: MailSource): Mail {
  const { causeId, resends, createdAt, recipient } = source
  const { subject, blocks } = source.kind === 'mailing' ? ofMailing(source) : ofTemplate(source.kind, source.facts)
  return {
    from,
    to: { name: '', address: oneLine(recipient.email) },
    subject,
    messageId: messageIdOf(causeId, resends),
    date: createdAt,
    text: `${blocks.map(asText).join('\n\n')}\n\n-- \nshopstream\n`,
    html: `<!doctype html>\n<html><body>\n${blocks.map(asHtml).join('\n')}\n<p>shopstream</p>\n</body></html>\n`,
    headers: { 'Auto-Submitted': 'auto-generated', ...(source.kind === 'mailing' && headersOfMailing(source)) },
  }
}

const ofTemplate = (kind: EventKind, facts: Facts) => ({
  subject: subjectOf(kind, facts),
  blocks: templates[kind].paragraphs.map((paragraph) => block(paragraph, facts)),
})

/** Staff's own words: blank lines part paragraphs, and lines stay lines. */
function ofMailing({ subject, text, optOutLink }: { subject: string; text: string; optOutLink?: string | undefined }) {
  const paragraphs = text.trim().split(/\s*\n\s*\n\s*/)
  const linesOf = (paragraph: string) => paragraph.split(/\r?\n/).map(oneLine).join('\n')
  if (optOutLink) paragraphs.push(`To get no more mailings: ${optOutLink}`)
  return { subject: oneLine(subject), blocks: paragraphs.map((paragraph) => ({ paragraph: linesOf(paragraph) })) }
}

/** One-click by RFC 8058: mail programs show a button of their own, and send the link a POST. */
const headersOfMailing = ({ optOutLink }: { optOutLink?: string | undefined }) => ({
  Precedence: 'bulk',
  ...(optOutLink && {
    'List-Unsubscribe': `<${optOutLink}>`,
    'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
  }),
})

type Block = { paragraph: string } | { items: string[] }

function block(paragraph: string, facts: Facts): Block {
  return paragraph === '{items}' ? { items: (facts.items ?? []).map(oneLine) } : { paragraph: fill(paragraph, facts) }
}

/** Puts facts in the place of their names, in one pass: a fact that looks like a placeholder stays as it is. */
function fill(text: string, facts: Facts): string {
  return text.replace(/\{(\w+)\}/g, (_whole, word: string) => {
    const fact = facts[word]
    if (typeof fact !== 'string') throw new Error(`a mail template names {${word}}, which this notification has not`)
    return oneLine(fact)
  })
}

/** Facts come from people: line breaks and other control characters would end a header or forge a line. */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').toWellFormed()
}

const asText = (each: Block) => ('items' in each ? each.items.map((item) => `  - ${item}`).join('\n') : each.paragraph)

const asHtml = (each: Block) =>
  'items' in each
    ? `<ul>${each.items.map((item) => `<li>${escaped(item)}</li>`).join('')}</ul>`
    : `<p>${escaped(each.paragraph).replaceAll('\n', '<br>\n')}</p>`

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

const escaped = (text: string) => text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
