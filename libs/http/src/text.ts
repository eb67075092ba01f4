/**
 * Matches a visible character. Blanks, marks alone and format characters are invisible, and so is what Unicode draws as
 * nothing by default (U+200B, joiners, fillers such as U+3164).
 */
const visible = /[^\p{White_Space}\p{C}\p{M}\p{Default_Ignorable_Code_Point}]/u

/**
 * Symbols without ink that no Unicode property marks: the blanks of Braille, music and hieroglyphs, and the placeholder
 * for an object that plain text cannot hold. Found by name in Unicode 14; the others named fillers, spaces and
 * placeholders are drawn.
 */
const inkless = /[\u2800\ufffc\u{13441}\u{13442}\u{1D159}]/gu

export const withoutInkless = (text: string) => text.replace(inkless, '')

/**
 * Control characters, halves of surrogate pairs, and the explicit formatting of UAX #9, which shows text in another
 * order than it is stored. Its implicit marks (U+061C, U+200E, U+200F) turn no letters, and belong to names as joiners
 * do.
 */
const unprintable = /[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/u
const lineEnds = /[\r\n\u0085\u2028\u2029]/
const layout = /[\t\r\n]/g

/** One line of any script in which something is to be seen, and nothing hides or turns around. */
export const isLine = (text: string) => isLines(text) && !lineEnds.test(text) && !text.includes('\t')

/** The same of several lines. */
export const isLines = (text: string) => visible.test(withoutInkless(text)) && isPrintable(text)

/** Text of several lines that may also be empty. */
export const isPrintable = (text: string) => !unprintable.test(text.replace(layout, ''))
