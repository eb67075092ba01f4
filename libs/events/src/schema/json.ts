import { randomUUID } from 'node:crypto'

/**
 * A number of JSON whose text tells more than a JavaScript number would: `1.0` and `1e3`, which are no integers in
 * Avro, and integers that a double rounds, such as 9007199254740993.
 */
export class NumberAsWritten {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  /** As `JSON.parse` has it. */
  valueOf(): number {
    return Number(this.text)
  }

  toString(): string {
    return this.text
  }

  toJSON(): number {
    return Number(this.text)
  }
}

/**
 * Reads JSON as `JSON.parse` does, and throws what it throws, but keeps what Avro tells numbers apart by: those that
 * {@link NumberAsWritten} is for come as one. Takes time in proportion to the text, however deep it is nested.
 */
export function readJson(text: string): unknown {
  const plain: unknown = JSON.parse(text) // says what is wrong with it better than what follows would
  const mark = randomUUID() // nobody can know it, so nobody's string is taken for a number
  let marked = false
  const words = text.replace(stringOrNumber, (word) => {
    if (isExact(word)) return word
    marked = true
    return `"${mark}${word}"`
  })
  if (!marked) return plain
  const held = { root: JSON.parse(words) as unknown }
  unmark(held, mark)
  return held.root
}

const stringOrNumber = /"(?:[^"\\]+|\\.)*"|-?\d[\d.eE+-]*/g

/** Strings, and integers that a double holds. */
const isExact = (word: string): boolean =>
  word.startsWith('"') || (/^-?\d+$/.test(word) && Number.isSafeInteger(Number(word)))

/** Puts numbers in the place of marked strings. No recursion: `JSON.parse` reads a million brackets in each other. */
function unmark(root: object, mark: string): void {
  const holders = [root as Record<string, unknown>]
  for (let holder = holders.pop(); holder; holder = holders.pop()) {
    for (const key of Object.keys(holder)) {
      const value = holder[key]
      if (typeof value === 'object' && value !== null) holders.push(value as Record<string, unknown>)
      else if (typeof value === 'string' && value.startsWith(mark)) {
        holder[key] = new NumberAsWritten(value.slice(mark.length))
      }
    }
  }
}

/** Whether JSON is an object: no array, and no {@link NumberAsWritten}. */
export const isJsonObject = (json: unknown): json is Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json) && !(json instanceof NumberAsWritten)

/** Whether JSON is a number, as `JSON.parse` or as {@link readJson} has it. */
export const isJsonNumber = (json: unknown): json is number | NumberAsWritten =>
  typeof json === 'number' || json instanceof NumberAsWritten

/**
 * Whether JSON is a whole number that fits in so many bits with its sign. `1.0` and `1e3` are none, as in Avro's Java
 * implementation; that can be told only of what {@link readJson} has read.
 */
export function isInteger(json: unknown, bits: 32 | 64): json is number | NumberAsWritten {
  if (json instanceof NumberAsWritten) return /^-?\d{1,19}$/.test(json.text) && fitsIn(BigInt(json.text), bits)
  return Number.isInteger(json) && Math.abs(json as number) <= 2 ** 63 && fitsIn(BigInt(json as number), bits)
}

/** Whether JSON is bytes, which Avro writes as text of the code points 0 to 255. */
export const isJsonBytes = (json: unknown): json is string => typeof json === 'string' && /^[\0-\xff]*$/.test(json)

const fitsIn = (value: bigint, bits: number): boolean => BigInt.asIntN(bits, value) === value

/** A piece of JSON for a message: short, and on one line. */
export function brief(json: unknown): string {
  if (Array.isArray(json)) return '(an array)'
  if (isJsonObject(json)) return '(an object)'
  const written = json instanceof NumberAsWritten ? json.text : (JSON.stringify(json) ?? String(json))
  return written.length > 60 ? `${written.slice(0, 57)}...` : written
}
