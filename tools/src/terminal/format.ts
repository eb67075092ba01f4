import { styleText } from 'node:util'
import { UsageError } from './options.ts'

/** How operators' commands put things: ages, times, tables, JSON. */

const units: [string, number][] = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
]

/** Seconds as people read them, such as `45 s` or `3 h`. */
export function age(seconds: number): string {
  const [unit, size] = units.find(([, each]) => seconds >= 2 * each) ?? ['s', 1]
  return `${Math.floor(Math.max(0, seconds) / size)} ${unit}`
}

export const secondsSince = (time: Date, now = new Date()): number => (now.getTime() - time.getTime()) / 1_000

/** A time to the millisecond in UTC, the day left out when it is today's. */
export function clock(time: Date, now = new Date()): string {
  const text = time.toISOString()
  return text.slice(0, 10) === now.toISOString().slice(0, 10) ? text.slice(11, 23) : text.replace('T', ' ').slice(0, 23)
}

const agoPattern = /^(\d+)(s|m|h|d)$/
const secondsOf = { s: 1, m: 60, h: 3_600, d: 86_400 }

/** What a TIME argument takes, for usage texts. */
export const timeHelp = `TIME is ISO 8601, such as 2026-01-31T12:00:00Z, or an age: 90s, 15m, 2h, 7d.`

/** A TIME argument as a time. Throws a UsageError. */
export function parseTime(text: string, now = new Date()): Date {
  const [, count, unit] = agoPattern.exec(text) ?? []
  if (count) return new Date(now.getTime() - Number(count) * secondsOf[unit as keyof typeof secondsOf] * 1_000)
  const time = new Date(text)
  if (!/^\d{4}-\d\d-\d\d/.test(text) || Number.isNaN(time.getTime())) throw new UsageError(`${text}: ${timeHelp}`)
  return time
}

/** Rows as lines, each column as wide as its widest cell, indented by two. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows.reduce<number[]>((found, row) => row.map((cell, n) => Math.max(found[n] ?? 0, cell.length)), [])
  return rows.map((row) => `  ${row.map((cell, n) => cell.padEnd(widths[n] ?? 0)).join('  ')}`.trimEnd())
}

/** JSON in which bigints are numbers as text and bytes are base64; no terminal obeys anything in it. */
export const toJson = (value: unknown, indent?: number): string =>
  JSON.stringify(
    value,
    (_, held) => {
      if (typeof held === 'bigint') return String(held)
      return held?.type === 'Buffer' ? Buffer.from(held.data).toString('base64') : held
    },
    indent,
  ).replaceAll(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, escaped)

/** As JSON writes what is below a blank by itself. */
const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`

/** Colours where the terminal shows them. */
export const good = (text: string) => styleText('green', text)
export const bad = (text: string) => styleText(['red', 'bold'], text)
export const faint = (text: string) => styleText('gray', text)
export const strong = (text: string) => styleText('bold', text)

/** How a command of this house is called. */
export const shop = (command: string) => `npm run shop -- ${command}`

export const firstLine = (text: string): string => text.split('\n', 1)[0] ?? ''

export const plural = (count: number | bigint, one: string, many = `${one}s`) =>
  `${count} ${Number(count) === 1 ? one : many}`
