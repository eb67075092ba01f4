import { isUtf8 } from 'node:buffer'
import { MessageRefused } from '@shopstream/messaging/forwarding'
import { maxHeaderBytes, type Received, type Sendable } from './target.ts'

/** How many headers a message may have: attributes are few. */
export const maxHeaders = 200

/**
 * Reads lines of `name: value`, between CRLF, whatever stands in a name: other clients are less strict than ours. The first of
 * those with one name counts. What has no colon is left out, such as the line that NATS begins with.
 */
export function readHeaders(bytes: Uint8Array): Pick<Received, 'headers' | 'unfit'> {
  if (bytes.length > maxHeaderBytes)
    return unread(`its headers have ${bytes.length} bytes; up to ${maxHeaderBytes} are read`)
  if (!isUtf8(bytes)) return unread('its headers are no UTF-8')
  const lines = new TextDecoder().decode(bytes).split('\r\n')
  const named = lines.filter((line) => line.includes(':'))
  if (named.length > maxHeaders) return unread(`it has ${named.length} headers; up to ${maxHeaders} are read`)
  const entries = named.map((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon), line.slice(colon + 1).trim()]
  })
  return { headers: Object.fromEntries(entries.toReversed()) }
}

const unread = (unfit: string) => ({ headers: {}, unfit })

/** What a message has in headers, as such lines. Throws {@link MessageRefused} where one would arrive as something else. */
export function headersOf({ contentType, attributes = {} }: Pick<Sendable, 'contentType' | 'attributes'>) {
  const odd = Object.keys(attributes).find((name) => !fits(attributes[name] as string))
  if (odd) throw new MessageRefused(`its ${odd} has a line break, or a space at an end, and a header holds neither`)
  const prefixed = Object.entries(attributes).map(([name, value]) => [`ce-${name}`, value] as const)
  return [['content-type', contentType] as const, ...prefixed]
}

const fits = (text: string) => text === text.trim() && !/[\r\n]/.test(text) && text.isWellFormed()
