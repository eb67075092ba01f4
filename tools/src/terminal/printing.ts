import { oddKey } from '@shopstream/messaging/operations'
import { shop } from './format.ts'

/** Prints foreign text, on a terminal and in commands to paste: anybody who can write to a topic has chosen it. */

/** Characters that a terminal obeys, or that reverse the text around them. */
const commands = '\\p{Cc}\u202a-\u202e\u2066-\u2069'
const lineCommand = new RegExp(`[${commands}]`, 'gu')
const textCommand = new RegExp(`(?![\n\t])[${commands}]`, 'gu')
/** Colours of our own are let through. */
const foreignCommand = new RegExp(`(\u001b\\[(?:1|22|31|32|39|90)m)|${textCommand.source}`, 'gu')

/** Several lines that came with a message. */
export const printable = (text: string): string => text.replaceAll(textCommand, '\ufffd')

/** What came with a message, within a line; cut where it is long. */
export function shown(text: string, length = 200): string {
  const start = text.slice(0, length).replaceAll(lineCommand, '\ufffd').toWellFormed()
  return text.length > length ? `${start}... (${text.length} characters)` : start
}

/** Prints for people. A last filter: the terminal obeys our own colours only, whatever the text still holds. */
export const print = (text: string): void =>
  console.log(text.replaceAll(foreignCommand, (_, own?: string) => own ?? '\ufffd'))

/** A message's key, in words. */
export function keyInWords(key: string | null, length?: number): string {
  if (key === null) return 'no key'
  if (key === '') return 'an empty key'
  return key.startsWith(oddKey) ? `a key of bytes (${shown(key.slice(1))})` : shown(key, length)
}

/** The type that a message claims to have, in words. */
export function typeInWords(type: string | undefined): string {
  if (type === undefined) return 'a message without a type'
  return type === '' ? 'a message of an empty type' : shown(type)
}

/** A header's value, in words. */
export const headerInWords = (value: string | null): string => (value === null ? 'no value' : shown(value))

/** A command that ends with what came with a message, quoted for a shell; undefined where nobody could type it. */
export function shopWith(command: string, argument: string): string | undefined {
  if (/^\w[\w.:@/-]*$/.test(argument)) return shop(`${command} ${argument}`)
  if (argument === '' || argument.startsWith('-') || shown(argument) !== argument) return undefined
  return shop(`${command} '${argument.replaceAll("'", `'\\''`)}'`)
}
