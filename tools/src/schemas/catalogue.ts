import type { EventName, Topic } from '@shopstream/events'
import type { LockEntry } from '@shopstream/events/codec'
import { parseSchema, type RecordSchema, type Schema, shortName } from '@shopstream/events/schema'
import { lifetime } from './asyncapi.ts'
import { deadLetterTopics, type Model, type ServiceWiring, withSchemas } from './wiring.ts'

/** `docs/events.md`: every event for a reader, with who writes and reads it. The same model gives the same text. */
export function printCatalogue(model: Model): string {
  const wiring = withSchemas(model.wiring)
  const events = new Map(model.events.map((event) => [shortName(event.name), event]))
  const known = (topic: Topic) => topic.events.flatMap((name) => events.get(name) ?? [])
  const parts = [
    introduction,
    '## Topics',
    table(
      ['topic', 'key', 'events', 'kept'],
      model.topics.map((topic) => [
        code(topic.name),
        topic.key,
        known(topic).map(linkTo).join(', '),
        topic.cleanup === 'compact' ? 'last of each key' : `${topic.retentionMs / dayMs} days`,
      ]),
    ),
    deadLetterText(model),
    '## Who writes and reads what',
    table(
      ['service', 'writes', 'reads'],
      wiring.map(({ service, produces, consumes }) => [
        service,
        produces.map(linkToName).join(', '),
        consumes.map(({ event }) => linkToName(event)).join(', '),
      ]),
    ),
    ...model.topics.flatMap((topic) => [
      `## ${topic.name}`,
      `Keyed by ${topic.key}, ${topic.partitions} partitions. ${lifetime(topic)}`,
      ...known(topic).flatMap((event) => eventParts(event, model.lock, wiring)),
    ]),
  ]
  return `${parts.join('\n\n')}\n`
}

const dayMs = 24 * 60 * 60 * 1000

const introduction = `<!-- Written by \`npm run generate\` from schemas/ and the services' wiring tables. Changes made here are lost. -->

# Events

What the services say to each other. Values are Avro in Confluent's wire format, headers are those of CloudEvents; both,
with an example of each event, are in [asyncapi.yaml](../schemas/asyncapi.yaml). "Since" is the version of the event that
brought a field; the versions are the rows of [registry.lock.json](../schemas/registry.lock.json).`

function deadLetterText({ wiring }: Model): string {
  const topics = deadLetterTopics(wiring)
  const [first] = topics
  if (!first) return 'No service consumes anything, so there are no dead-letter topics.'
  const names = topics.map(({ name }) => code(name)).join(', ')
  return `What a consumer gave up on is copied, bytes and headers, to a topic of its group, and stays there for ${first.retentionMs / dayMs} days: ${names}.`
}

function eventParts(event: RecordSchema, lock: readonly LockEntry[], wiring: readonly ServiceWiring[]): string[] {
  const name = shortName(event.name) as EventName
  const versions = lock.filter(({ subject }) => subject === event.name)
  const producers = wiring.filter(({ produces }) => produces.includes(name)).map(({ service }) => service)
  const readers = wiring.flatMap(({ service, consumes }) =>
    consumes.filter((row) => row.event === name).map(({ fields }) => ({ service, fields })),
  )
  return [
    `### ${name}`,
    event.doc ?? '',
    [
      `- Record: ${code(event.name)}, ${versions.map(({ version, id }) => `version ${version} with schema id ${id}`).join(', ') || 'not registered yet'}`,
      `- Written by: ${producers.join(', ') || 'nobody yet'}`,
      `- Read by: ${readers.map(readerText).join('; ') || 'nobody yet'}`,
    ].join('\n'),
    fieldTable(event, versions),
  ]
}

const readerText = ({ service, fields }: { service: string; fields: readonly string[] }) =>
  `${service} (${fields.length ? `uses ${fields.map(code).join(', ')}` : 'its key and headers alone'})`

function fieldTable(event: RecordSchema, versions: readonly LockEntry[]): string {
  const fieldsByVersion = versions.map(({ version, schema }) => ({
    version,
    paths: new Set(rowsOf(parseSchema(schema)).map(({ path }) => path)),
  }))
  return table(
    ['field', 'type', 'since', 'meaning'],
    rowsOf(event).map(({ path, type, doc }) => {
      const since = fieldsByVersion.find(({ paths }) => paths.has(path))
      return [code(path), type, since ? String(since.version) : 'next', doc]
    }),
  )
}

interface Row {
  /** Such as `lines[].sku`; `{}` stands for a key of a map. */
  path: string
  type: string
  doc: string
}

/** The fields of a record and, below each, those of the records in it. */
function rowsOf(record: RecordSchema, prefix = ''): Row[] {
  return record.fields.flatMap(({ name, doc = '', type }) => {
    const path = prefix + name
    const { nested, suffix } = recordIn(type)
    return [{ path, type: typeText(type), doc }, ...(nested ? rowsOf(nested, `${path}${suffix}.`) : [])]
  })
}

function recordIn(schema: Schema): { nested?: RecordSchema; suffix: string } {
  switch (schema.kind) {
    case 'record':
      return { nested: schema, suffix: '' }
    case 'nullable':
      return recordIn(schema.of)
    case 'array':
      return append('[]', recordIn(schema.items))
    case 'map':
      return append('{}', recordIn(schema.values))
    default:
      return { suffix: '' }
  }
}

const append = <T extends { suffix: string }>(mark: string, inner: T): T => ({ ...inner, suffix: mark + inner.suffix })

/** A type in Avro's words. */
function typeText(schema: Schema): string {
  switch (schema.kind) {
    case 'nullable':
      return `${typeText(schema.of)} or null`
    case 'array':
      return `array of ${typeText(schema.items)}`
    case 'map':
      return `map of ${typeText(schema.values)}`
    case 'enum':
      return schema.symbols.map(code).join(' or ')
    case 'decimal':
      return `decimal(${schema.precision}, ${schema.scale})`
    case 'fixed':
      return `${schema.size} bytes`
    case 'record':
      return shortName(schema.name)
    default:
      return schema.kind
  }
}

/** Markdown: the text as code. */
export const code = (text: string) => `\`${text}\``
const linkToName = (name: string) => `[${name}](#${name.toLowerCase()})`
const linkTo = ({ name }: RecordSchema) => linkToName(shortName(name))

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** A cell is one line, and a bar would end it. */
const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ')
