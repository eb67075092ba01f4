import { isDate } from 'node:util/types'

const uuidForm = /^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$/

/** Whether a value is the text form of a UUID, of any version and in either case. */
export const isUuid = (value: unknown): value is string => typeof value === 'string' && uuidForm.test(value)

/** Whether a value fits in a signed integer of 64 bits. */
export const isLong = (value: unknown): value is bigint =>
  typeof value === 'bigint' && BigInt.asIntN(64, value) === value

/** Whether a value is a Date and a valid one. */
export const isTime = (value: unknown): value is Date => isDate(value) && !Number.isNaN(value.getTime())

export const dayMs = 86_400_000

/** Whether a value is a day of the years 1 to 9999 in the form `YYYY-MM-DD`. */
export function isDay(value: unknown): value is string {
  if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\d$/.test(value) || value.startsWith('0000')) return false
  const time = Date.parse(value)
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(value) // Feb 30 would become a day in March
}

/** Whether a value is a decimal of exactly `scale` digits behind the point and at most `precision` in all, without a sign before zero. */
export function isDecimal(value: unknown, { precision, scale }: { precision: number; scale: number }): value is string {
  if (typeof value !== 'string' || value.length > precision + 3) return false
  const [, whole, fraction = ''] = /^-?(0|[1-9]\d*)(?:\.(\d+))?$/.exec(value) ?? []
  if (whole === undefined || fraction.length !== scale) return false
  const digits = (whole + fraction).replace(/^0+/, '')
  return digits.length <= precision && (digits !== '' || !value.startsWith('-'))
}

/** The day so many days after 1970-01-01. Throws when it is none of the years 1 to 9999. */
export function dayOf(days: number): string {
  const time = new Date(days * dayMs)
  const day = Number.isNaN(time.getTime()) ? '' : time.toISOString().slice(0, 10)
  if (!isDay(day)) throw new Error('is no day of the years 1 to 9999')
  return day
}

/** The digits of a decimal's bytes. Throws when they are more than its precision. */
export function decimalOf(bytes: Buffer, form: { precision: number; scale: number }): string {
  const unscaled = BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString('hex')}`))
  const { scale } = form
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0')
  const whole = digits.slice(0, digits.length - scale)
  const text = `${unscaled < 0n ? '-' : ''}${whole}${scale > 0 ? `.${digits.slice(-scale)}` : ''}`
  if (!isDecimal(text, form)) throw new Error('has more digits than its precision')
  return text
}

/** The time so many milliseconds after 1970. Throws beyond what a Date holds. */
export function timeOf(milliseconds: number | bigint): Date {
  const time = new Date(Number(milliseconds))
  if (Number.isNaN(time.getTime())) throw new Error('is no time')
  return time
}

const largestFloat = (2 - 2 ** -23) * 2 ** 127

/** A number is rounded to the nearest float, as in Java, but 1e300 would become Infinity, and 1e-60 nothing at all. */
export const isFloat = (value: unknown): value is number =>
  typeof value === 'number' && (!Number.isFinite(value) || floatProblem(value) === undefined)

/** What is wrong with a finite number that is to be a float. */
export function floatProblem(value: number): string | undefined {
  const float = Math.fround(value)
  if (!Number.isFinite(float)) return `is beyond what a float holds, which is up to ${largestFloat.toPrecision(8)}`
  return float === 0 && value !== 0 ? 'is too close to zero for a float, which would make it zero' : undefined
}

/** The bytes of the longest decimal: a sign and `precision` digits. */
export const maxDecimalBytes = ({ precision }: { precision: number }): number =>
  Math.ceil((precision * Math.log2(10) + 1) / 8)
