import { type RecordSchema, type ScalarKind, type Schema, shortName } from '@shopstream/events/schema'
import { type NamedSchema, namedTypes } from './files.ts'

const scalarTypes: Record<ScalarKind, string> = {
  boolean: 'boolean',
  int: 'number',
  long: 'bigint',
  float: 'number',
  double: 'number',
  string: 'string',
  bytes: 'Buffer',
  uuid: 'string',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a type
  date: '`${number}-${number}-${number}`',
  'timestamp-millis': 'Date',
}

/** `libs/events/src/generated/events.ts`: an interface or a union of literals for each named type of the events. */
export function printTypes(events: readonly RecordSchema[]): string {
  const types = new Map(events.flatMap(namedTypes).map((schema) => [schema.name, schema]))
  const sorted = [...types.values()].sort((one, other) => (shortName(one.name) < shortName(other.name) ? -1 : 1))
  const names = events.map(({ name }) => shortName(name)).sort()
  return `${[
    '// Written by `npm run generate` from schemas/. Changes made here are lost.',
    ...sorted.map(printType),
    `/** Every event by its name. */\nexport interface EventTypes {\n${names.map((name) => `  ${name}: ${name}`).join('\n')}\n}`,
    'export type EventName = keyof EventTypes',
    `/** By event, the fields that a writer may leave out: they have a default. */\nexport interface EventDefaults {\n${events
      .map((event) => `  ${shortName(event.name)}: ${defaultsOf(event)}`)
      .sort()
      .join('\n')}\n}`,
  ].join('\n\n')}\n`
}

function defaultsOf({ fields }: RecordSchema): string {
  const names = fields.filter((field) => Object.hasOwn(field, 'default')).map(({ name }) => `'${name}'`)
  return names.length === 0 ? 'never' : names.join(' | ')
}

function printType(schema: NamedSchema): string {
  const doc = comment(`${schema.doc} Avro: \`${schema.name}\`.`, '')
  const name = shortName(schema.name)
  if (schema.kind === 'enum')
    return `${doc}export type ${name} = ${schema.symbols.map((symbol) => `'${symbol}'`).join(' | ')}`
  const fields = schema.fields.map(({ name, doc, type }) => `${comment(doc ?? '', '  ')}  ${name}: ${typeText(type)}`)
  return `${doc}export interface ${name} {\n${fields.join('\n')}\n}`
}

function comment(doc: string, indent: string): string {
  const lines = doc.replaceAll('*/', '*\\/').split(/\r?\n/)
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join('\n')}\n${indent} */\n`
}

function typeText(schema: Schema): string {
  switch (schema.kind) {
    case 'array':
      return schema.items.kind === 'nullable' ? `(${typeText(schema.items)})[]` : `${typeText(schema.items)}[]`
    case 'map':
      return `Record<string, ${typeText(schema.values)}>`
    case 'nullable':
      return `${typeText(schema.of)} | null`
    case 'decimal':
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a type
      return '`${number}`'
    case 'fixed':
      return 'Buffer'
    case 'record':
    case 'enum':
      return shortName(schema.name)
    default:
      return scalarTypes[schema.kind]
  }
}
