import { type Static, type TSchema, Type } from 'typebox'
import { errors } from './errors.ts'

const limits = { minimum: 1, maximum: 100, default: 20 }

/** The kinds of values that a cursor is made of; each is checked when it comes back, so that SQL can take it as it is. */
const cursorParts = {
  text: /^[^\0]{0,500}$/u,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
  time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
  integer: /^-?\d{1,18}$/,
} as const

/** The values at the last row shown, as text, in the order of the list. */
export type Position = readonly string[]

/** Opaque text for a position. */
function encodeCursor(position: Position): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

/**
 * The position that a cursor stands for, undefined without one. `parts` are the kinds of its values.
 * Throws `invalid-cursor` (400) for anything that `encodeCursor` would not have made.
 */
function decodeCursor<const Parts extends readonly (keyof typeof cursorParts)[]>(
  cursor: string | undefined,
  parts: Parts,
): { [I in keyof Parts]: string } | undefined {
  if (cursor === undefined) return undefined
  const position = parsed(cursor)
  const fits =
    Array.isArray(position) &&
    position.length === parts.length &&
    parts.every((part, i) => typeof position[i] === 'string' && isPart(part, position[i]))
  if (!fits) throw errors['invalid-cursor']()
  return position as unknown as { [I in keyof Parts]: string }
}

const isPart = (part: keyof typeof cursorParts, text: string) =>
  cursorParts[part].test(text) && text.isWellFormed() && (part !== 'time' || !Number.isNaN(Date.parse(text)))

function parsed(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/**
 * A page of rows that were read with `limit + 1`: the row too many only says that there is more.
 * @param toItem makes the shown item of a row.
 * @param toPosition where a row stands, for the cursor of the next page.
 */
function of<Row, Item>(
  rows: readonly Row[],
  limit: number,
  toItem: (row: Row) => Item,
  toPosition: (row: Row) => Position,
): { items: Item[]; nextCursor: string | null } {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  const nextCursor = last !== undefined && rows.length > limit ? encodeCursor(toPosition(last)) : null
  return { items: shown.map(toItem), nextCursor }
}

/** Lists in pages: `{ items, nextCursor }` with `?limit=` and `?cursor=`. */
export const page = {
  /** Fields for a list's `query`: `Type.Object({ ...page.query, status: … })`. */
  query: {
    limit: Type.Integer({ ...limits, description: 'How many to give at most.' }),
    cursor: Type.Optional(
      Type.String({ minLength: 1, maxLength: 2000, description: '`nextCursor` of the page before.' }),
    ),
  },
  /** The schema of a page of items. */
  list: <Item extends TSchema>(item: Item) =>
    Type.Object({ items: Type.Array(item), nextCursor: Type.Union([Type.String(), Type.Null()]) }),
  encodeCursor,
  decodeCursor,
  of,
}

/** A page as its schema says. */
export type Page<Item extends TSchema> = { items: Static<Item>[]; nextCursor: string | null }
