import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createCodec, type LockEntry } from '@shopstream/events/codec'
import { parseSchema, type ScalarKind, type Schema, shortName } from '@shopstream/events/schema'
import { asJson, goldenFile } from '@shopstream/testing/golden'

/**
 * The text of the golden file of a row: an example with values such as the shop has, and its bytes as this version
 * writes them. The same row gives the same text. Throws what the codec throws for a schema that it refuses.
 */
export function goldenOf(row: LockEntry): string {
  const event = shortName(row.subject)
  const value = exampleOf(parseSchema(row.schema), event) as object
  const hex = createCodec<Record<string, object>>([row]).encode(event, value).toString('hex')
  const { id: schemaId, subject, version } = row
  return `${JSON.stringify({ schemaId, subject, version, hex, value: asJson(value) }, null, 2)}\n`
}

/**
 * Writes the golden files of rows that are new in the lock and returns their paths from `root`, the top of the
 * workspace. Throws, having written nothing, when one is there already: golden bytes are evidence of what was once
 * written, so they are never made anew.
 */
export function writeGolden(root: string, rows: readonly LockEntry[]): string[] {
  const files = rows.map((row) => ({ path: goldenFile(row), text: goldenOf(row) }))
  const there = files.filter(({ path }) => existsSync(join(root, path)))
  if (there.length > 0) {
    const names = there.map(({ path }) => path).join(', ')
    throw new Error(
      `${names}: golden bytes are never rewritten; restore what was committed, and register a new version`,
    )
  }
  for (const { path, text } of files) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text, { flag: 'wx' })
  }
  return files.map(({ path }) => path)
}

/** Values by the name of a field, where its kind is this one too; another field gets one by its kind. */
const known: Record<string, unknown> = {
  activeFrom: new Date('2026-01-15T10:00:00Z'),
  algorithm: 'EdDSA',
  amount: 1450n,
  available: 3,
  carrier: 'Swiss Post',
  currency: 'EUR',
  description: 'Holds 350 ml and survives a fall.',
  displayName: 'Zoë Müller',
  email: 'zoe@example.com',
  expiresAt: new Date('2026-02-14T10:26:00Z'),
  kind: 'confirmed',
  messageId: '<0199a2b4-6c00-7000-8000-ca05e1d00001@shopstream.local>',
  name: 'Enamel mug',
  onHand: 12,
  publicKey: '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
  quantity: 1,
  reason: 'changed my mind',
  requested: 5,
  reserved: 9,
  roles: 'customer',
  schema: '{"type":"record","name":"shopstream.user.UserErased","fields":[{"name":"userId","type":"string"}]}',
  schemaId: 100_023,
  sku: 'mug-enamel',
  subject: 'shopstream.user.UserErased',
  trackingNumber: 'RR123456785CH',
  version: 3,
}

const morning = Date.UTC(2026, 0, 15, 9, 30)

/** What is the same for a name always, so that the ids of one file agree with those of another. */
const digest = (name: string): Buffer => createHash('sha256').update(name).digest()

const scalars: Record<ScalarKind, (name: string) => unknown> = {
  boolean: () => true,
  int: (name) => digest(name).readUInt8(0),
  long: (name) => BigInt(digest(name).readUInt32BE(0)),
  float: () => 0.5,
  double: () => 0.1,
  string: (name) => `the ${name}`,
  bytes: (name) => digest(name).subarray(0, 8),
  uuid: (name) => `0199a2b4-6c00-7000-8000-${digest(name).toString('hex', 0, 6)}`,
  date: (name) => new Date(morning + (digest(name).readUInt16BE(0) % 365) * 86_400_000).toISOString().slice(0, 10),
  'timestamp-millis': (name) => new Date(morning + (digest(name).readUInt32BE(0) % 36_000_000)),
}

/** A value of `schema` for a field (or a record) of this name. */
function exampleOf(schema: Schema, name: string): unknown {
  switch (schema.kind) {
    case 'nullable':
      return exampleOf(schema.of, name)
    case 'array':
      return [exampleOf(schema.items, name)]
    case 'map':
      return { example: exampleOf(schema.values, name) }
    case 'enum':
      return schema.symbols[0]
    case 'decimal':
      return decimalOf(digest(name).readUInt16BE(0) % 10 ** Math.min(schema.precision, 4), schema.scale)
    case 'fixed':
      return Buffer.alloc(schema.size, digest(name))
    case 'record':
      return Object.fromEntries(schema.fields.map((field) => [field.name, exampleOf(field.type, field.name)]))
    default: {
      const byKind = scalars[schema.kind](name)
      return Object.hasOwn(known, name) && typeof known[name] === typeof byKind ? known[name] : byKind
    }
  }
}

function decimalOf(unscaled: number, scale: number): string {
  const digits = String(unscaled).padStart(scale + 1, '0')
  return scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}
