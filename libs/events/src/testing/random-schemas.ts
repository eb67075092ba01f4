import { readAvro } from '../compatibility/avro-model.ts'
import type { AvroNode } from '../compatibility/avro-nodes.ts'

/** A whole number from 0 up to, but without, `below`. All randomness in this file comes through one of these. */
export type Dice = (below: number) => number

type Json = Record<string, unknown>

const primitives = ['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string']
const typeNames = ['A', 'B', 'C']
const spaces = [undefined, undefined, 'x', 'y.z', '']
const fieldNames = ['a', 'b', 'c', 'd']
const symbols = ['P', 'Q', 'R', 'S']
const logicals: Record<string, readonly Json[]> = {
  int: [{ logicalType: 'date' }, { logicalType: 'time-millis' }],
  long: [{ logicalType: 'timestamp-millis' }, { logicalType: 'timestamp-micros' }],
  string: [{ logicalType: 'uuid' }],
  bytes: [
    { logicalType: 'decimal', precision: 9, scale: 2 },
    { logicalType: 'decimal', precision: 9, scale: 3 },
    { logicalType: 'decimal', precision: 5, scale: 2 },
  ],
}

/** What a schema is made from: few names, so that schemas made apart from each other still meet. */
interface Making {
  readonly dice: Dice
  /** Full names defined so far. */
  readonly names: Set<string>
  readonly space: string
  readonly depth: number
}

const pick = <T>(dice: Dice, from: readonly T[]): T => from[dice(from.length)] as T

const some = <T>(dice: Dice, from: readonly T[]): T[] => from.filter(() => dice(2) === 0)

/** JSON of an Avro schema: nested, recursive, with namespaces, aliases, defaults and logical types. A few are none. */
export function anySchema(dice: Dice): unknown {
  return make({ dice, names: new Set(), space: '', depth: 0 })
}

function make(making: Making): unknown {
  const { dice, depth, names } = making
  const roll = dice(depth > 3 ? 4 : 14)
  if (roll < 3) return primitive(dice)
  // from inside of a namespace there is no way to name what has none
  const known = making.space === '' ? [...names] : [...names].filter((name) => name.includes('.'))
  if (roll === 3) return known.length > 0 ? pick(dice, known) : primitive(dice)
  if (roll === 4) return { type: 'array', items: make(deeper(making)) }
  if (roll === 5) return { type: 'map', values: make(deeper(making)) }
  if (roll < 8) return makeUnion(making)
  return makeNamed(making, roll < 9 ? 'fixed' : roll < 10 ? 'enum' : 'record')
}

const deeper = (making: Making): Making => ({ ...making, depth: making.depth + 1 })

function primitive(dice: Dice): unknown {
  const type = pick(dice, primitives)
  const logical = logicals[type]
  return logical && dice(4) === 0 ? { type, ...pick(dice, logical) } : type
}

function makeUnion(making: Making): unknown[] {
  const seen = new Set<unknown>()
  const branches = Array.from({ length: making.dice(4) }, () => make(deeper(making)))
  return branches.filter((branch) => {
    if (Array.isArray(branch)) return false
    const name = branchName(branch)
    return seen.has(name) ? false : seen.add(name)
  })
}

const branchName = (branch: unknown): unknown => {
  if (typeof branch === 'string') return branch
  const { type, name, namespace } = branch as Json
  return name === undefined ? type : `${String(namespace)}.${String(name)}`
}

function makeNamed(making: Making, type: 'fixed' | 'enum' | 'record'): unknown {
  const { dice, names } = making
  const name = pick(dice, typeNames)
  const namespace = pick(dice, spaces)
  const space = namespace ?? making.space
  const full = space === '' ? name : `${space}.${name}`
  if (names.has(full)) return primitive(dice)
  names.add(full)
  const aliases = dice(6) === 0 ? { aliases: [pick(dice, typeNames)] } : {}
  const named = { type, name, ...(namespace === undefined ? {} : { namespace }), ...aliases }
  if (type === 'fixed') return { ...named, size: 1 + dice(2) }
  if (type === 'enum') {
    const held = ['P', ...some(dice, symbols.slice(1))]
    return { ...named, symbols: held, ...(dice(3) === 0 ? { default: pick(dice, held) } : {}) }
  }
  const fields = some(dice, fieldNames).map((each) => makeField(each, { ...deeper(making), space }))
  return { ...named, fields }
}

function makeField(name: string, making: Making): Json {
  const { dice } = making
  const type = make(making)
  const aliases = dice(8) === 0 ? { aliases: [pick(dice, fieldNames)] } : {}
  return { name, type, ...(dice(3) === 0 ? defaultOf(type) : {}), ...aliases }
}

const zeros: Record<string, unknown> = {
  null: null,
  boolean: true,
  int: 1,
  long: 1,
  float: 0.5,
  double: 0.5,
  bytes: '\u00ff',
  string: '',
  array: [],
  map: {},
}

/** A default of the type, of its first branch if it is a union; nothing where that takes more than a look. */
function defaultOf(type: unknown): { default?: unknown } {
  const first = Array.isArray(type) ? type[0] : type
  if (first === undefined) return {}
  const { type: kind = first, symbols: held, size } = first as Json
  if (kind === 'enum') return { default: (held as string[])[0] }
  if (kind === 'fixed') return { default: ''.padEnd(size as number, 'z') }
  return typeof kind === 'string' && Object.hasOwn(zeros, kind) ? { default: zeros[kind] } : {}
}

/** An evolved copy of a schema: one to three edits, good ones and bad ones. It may be no schema any more. */
export function evolved(schema: unknown, dice: Dice): unknown {
  const held = { root: structuredClone(schema) }
  for (let edits = 1 + dice(3); edits > 0; edits--) {
    const slots = slotsIn(held, 'root')
    pick(dice, edit)(pick(dice, slots), dice)
  }
  return held.root
}

/** A place in a schema where a schema is. */
interface Slot {
  readonly holder: Json
  readonly key: string
}

function slotsIn(holder: object, key: string): Slot[] {
  const slot = { holder: holder as Json, key }
  const schema = slot.holder[key]
  if (Array.isArray(schema)) return [slot, ...schema.flatMap((_, at) => slotsIn(schema, String(at)))]
  if (typeof schema !== 'object' || schema === null) return [slot]
  const json = schema as Json
  if (json.type === 'array') return [slot, ...slotsIn(json, 'items')]
  if (json.type === 'map') return [slot, ...slotsIn(json, 'values')]
  if (json.type === 'record') return [slot, ...(json.fields as Json[]).flatMap((field) => slotsIn(field, 'type'))]
  return [slot]
}

type Edit = (slot: Slot, dice: Dice) => void

const inRecord = (change: (fields: Json[], dice: Dice) => void): Edit => {
  return ({ holder, key }, dice) => {
    const json = holder[key] as Json
    if (json.type === 'record') change(json.fields as Json[], dice)
  }
}

const inNamed = (change: (json: Json, dice: Dice) => void): Edit => {
  return ({ holder, key }, dice) => {
    const json = holder[key] as Json
    if (typeof json === 'object' && json.name !== undefined) change(json, dice)
  }
}

const edit: readonly Edit[] = [
  ({ holder, key }, dice) => {
    if (typeof holder[key] === 'string') holder[key] = primitive(dice)
  },
  ({ holder, key }, dice) => {
    const { type = holder[key] } = holder[key] as Json
    if (type === 'int') holder[key] = pick(dice, ['long', 'double'])
    if (type === 'string') holder[key] = 'bytes'
  },
  ({ holder, key }) => {
    if (!Array.isArray(holder[key]) && !Array.isArray(holder)) holder[key] = ['null', holder[key]]
  },
  ({ holder, key }, dice) => {
    const json = holder[key]
    if (Array.isArray(json)) json.splice(dice(json.length + 1), dice(2), primitive(dice))
  },
  ({ holder, key }) => {
    const json = holder[key]
    if (Array.isArray(json)) json.reverse()
  },
  ({ holder, key }) => {
    const json = holder[key]
    if (Array.isArray(json) && json.length === 1) holder[key] = json[0]
  },
  ({ holder, key }, dice) => {
    const json = holder[key] as Json
    if (typeof json !== 'object' || json.logicalType === undefined) return
    const others = logicals[json.type as string] ?? []
    holder[key] = { type: json.type, ...pick(dice, others) }
  },
  inRecord((fields, dice) => {
    const type = primitive(dice)
    fields.splice(dice(fields.length + 1), 0, {
      name: pick(dice, ['e', 'f']),
      type,
      ...(dice(4) > 0 ? defaultOf(type) : {}),
    })
  }),
  inRecord((fields, dice) => {
    fields.splice(dice(fields.length + 1), 1)
  }),
  inRecord((fields) => {
    fields.reverse()
  }),
  inRecord((fields, dice) => {
    const field = fields[dice(fields.length + 1)]
    if (!field) return
    if (dice(3) > 0) field.aliases = [field.name]
    field.name = pick(dice, ['e', 'f', ...fieldNames])
  }),
  inRecord((fields, dice) => {
    const field = fields[dice(fields.length + 1)]
    if (field) field.default = defaultOf(field.type).default ?? null
  }),
  inNamed((json, dice) => {
    if (dice(3) > 0) json.aliases = [json.name]
    json.name = pick(dice, [...typeNames, 'D'])
  }),
  inNamed((json, dice) => {
    json.namespace = pick(dice, ['', 'x', 'n'])
  }),
  inNamed((json, dice) => {
    if (json.type === 'enum') json.symbols = some(dice, [...symbols, 'T'])
  }),
  inNamed((json, dice) => {
    if (json.type === 'enum') json.default = (json.symbols as string[])[dice(2)]
  }),
  inNamed((json, dice) => {
    if (json.type === 'fixed') json.size = 1 + dice(3)
  }),
]

/** What a writer with this schema could send; undefined when all values of the schema are endless. */
export function anyBytes(schema: unknown, dice: Dice): Buffer | undefined {
  const bytes: number[] = []
  return write(readAvro(schema, 'writer').root, bytes, dice, 0) ? Buffer.from(bytes) : undefined
}

const varint = (value: number): number[] => {
  const zigzag = value >= 0 ? value * 2 : -value * 2 - 1
  return zigzag < 128 ? [zigzag] : [(zigzag % 128) + 128, Math.floor(zigzag / 128)]
}

/** Time stamps, days, decimals and UUIDs stay valid, because the bytes have to suit the logical type as well. */
const uuid = '6f1c2b52-6ef5-4a3e-8a39-0d3c1d9b4c11'

function write(type: AvroNode, out: number[], dice: Dice, depth: number): boolean {
  if (depth > 12) return false
  const inner = (of: AvroNode) => write(of, out, dice, depth + 1)
  switch (type.kind) {
    case 'null':
      return true
    case 'boolean':
      out.push(dice(2))
      return true
    case 'int':
    case 'long':
      out.push(...varint(dice(4000) - 2000))
      return true
    case 'float':
      out.push(0, 0, 0xc0, 0x3f)
      return true
    case 'double':
      out.push(0, 0, 0, 0, 0, 0, 0xf8, 0x3f)
      return true
    case 'bytes':
    case 'string': {
      const isDecimal = type.logical?.startsWith('decimal')
      const text = type.logical === 'uuid' ? uuid : 'x'.repeat(isDecimal ? 1 + dice(2) : dice(3))
      out.push(...varint(text.length), ...Buffer.from(text))
      return true
    }
    case 'fixed':
      for (let at = 0; at < type.size; at++) out.push(dice(256))
      return true
    case 'enum':
      if (type.symbols.length === 0) return false
      out.push(...varint(dice(type.symbols.length)))
      return true
    case 'array':
      return block(out, dice, depth, () => inner(type.items))
    case 'map':
      return block(out, dice, depth, () => {
        out.push(...varint(1), 0x6b)
        return inner(type.values)
      })
    case 'union': {
      if (type.branches.length === 0) return false
      const at = depth > 6 ? shallowest(type.branches) : dice(type.branches.length)
      out.push(...varint(at))
      return inner(type.branches[at] as AvroNode)
    }
    case 'record':
      return type.fields.every((field) => inner(field.type))
  }
}

function block(out: number[], dice: Dice, depth: number, item: () => boolean): boolean {
  const count = depth > 6 ? 0 : dice(3)
  if (count > 0) {
    out.push(...varint(count))
    for (let at = 0; at < count; at++) if (!item()) return false
  }
  out.push(0)
  return true
}

/** The branch that most likely ends soon. */
const shallowest = (branches: readonly AvroNode[]): number => {
  const at = branches.findIndex(({ kind }) => primitives.includes(kind))
  return at === -1 ? 0 : at
}
