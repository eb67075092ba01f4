/** `npm run generate`: writes types and registry lock from schemas/, or checks that they are fresh. */
import { createHash } from 'node:crypto'
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { createCodec, type LockEntry } from '@shopstream/events/codec'
import {
  type EnumSchema,
  normalise,
  parseSchema,
  type RecordSchema,
  type ScalarKind,
  type Schema,
  shortName,
} from '@shopstream/events/schema'

const help = `npm run generate [-- --check]

Reads schemas/**/*.avsc and writes what follows from them:
  schemas/registry.lock.json            a new version for each changed schema; old rows are never altered
  libs/events/src/generated/events.ts   TypeScript types of the events

  --check   writes nothing; says what is stale and exits with 1 if anything is
  --help    this text`

const lockFile = 'schemas/registry.lock.json'
const typesFile = 'libs/events/src/generated/events.ts'
const mend = 'run `npm run generate` and commit the result'

/** Every reader has this schema built in: it is how all others are learned, so its id and text are for good. */
const pinned = { subject: 'shopstream.schema.SchemaRegistered', id: 100_001 }

const scalarTypes: Record<ScalarKind, string> = {
  boolean: 'boolean',
  int: 'number',
  long: 'bigint',
  float: 'number',
  double: 'number',
  string: 'string',
  bytes: 'Buffer',
  uuid: 'string',
  'timestamp-millis': 'Date',
}

type NamedSchema = RecordSchema | EnumSchema

/** Schemas or a lock that no command can mend; `problems` says what to change, one line each. */
export class GenerateError extends Error {
  readonly problems: string[]

  constructor(problems: string[]) {
    super(problems.join('\n'))
    this.name = 'GenerateError'
    this.problems = problems
  }
}

/**
 * Brings the lock and the types up to date with the schemas, and returns one line for each file that it wrote.
 * With `check` it writes nothing and returns what is wrong, in words that say what to do; empty when all is fresh.
 * Without `check` it throws {@link GenerateError}, having written nothing, when the schemas or the lock are refused.
 * `root` is the workspace, by default the one this file is in.
 */
export async function generate(options: { check: boolean; root?: string }): Promise<string[]> {
  const root = options.root ?? join(import.meta.dirname, '../..')
  try {
    const events = readEvents(root)
    const lock = extendLock(readLock(root), events)
    const outputs = { [lockFile]: printLock(lock), [typesFile]: printTypes(events) }
    const stale = Object.entries(outputs).filter(([file, text]) => read(join(root, file)) !== text)
    if (options.check) return stale.map(([file]) => `${file} is stale: ${mend}`)
    for (const [file, text] of stale) write(join(root, file), text)
    return stale.map(([file]) => `${file} written`)
  } catch (error) {
    if (options.check && error instanceof GenerateError) return error.problems
    throw error
  }
}

/** The schemas by path, refused as a whole when any of them is. */
function readEvents(root: string): RecordSchema[] {
  const problems: string[] = []
  const files = globSync('schemas/**/*.avsc', { cwd: root }).sort()
  const events = files.flatMap((file) => {
    try {
      const event = parseSchema(JSON.parse(readFileSync(join(root, file), 'utf8')))
      problems.push(...shortcomings(file, event).map((problem) => `${file}: ${problem}`))
      return [event]
    } catch (error) {
      problems.push(`${file}: ${(error as Error).message}`)
      return []
    }
  })
  problems.push(...clashes(events))
  if (problems.length) throw new GenerateError(problems)
  return events
}

/** What the house asks of a schema beyond Avro: a name that follows from its path, and documentation. */
function shortcomings(file: string, event: RecordSchema): string[] {
  const place = file.slice('schemas/'.length, -'.avsc'.length)
  const expected = `shopstream.${place.replaceAll('/', '.').replaceAll('-', '_')}`
  const misnamed = event.name === expected ? [] : [`the record is named ${event.name}, by its path it is ${expected}`]
  const undocumented = namedTypes(event).flatMap((schema) => [
    ...(schema.doc ? [] : [`${schema.name} has no doc`]),
    ...(schema.kind === 'record' ? schema.fields : []).flatMap(({ name, doc }) =>
      doc ? [] : [`${schema.name}.${name} has no doc`],
    ),
  ])
  return [...misnamed, ...undocumented]
}

/** Types of different events that would be one in TypeScript and are not the same. */
function clashes(events: readonly RecordSchema[]): string[] {
  const seen = new Map<string, string>()
  return events.flatMap(namedTypes).flatMap((schema) => {
    const text = JSON.stringify(schema)
    const before = seen.get(shortName(schema.name))
    seen.set(shortName(schema.name), before ?? text)
    return before === undefined || before === text
      ? []
      : [`${schema.name} is defined in different ways: make the definitions equal, or give one of them another name`]
  })
}

/** A schema's own named types and those in it, parts first. */
function namedTypes(schema: Schema): NamedSchema[] {
  switch (schema.kind) {
    case 'record':
      return [...new Set(schema.fields.flatMap(({ type }) => namedTypes(type))), schema]
    case 'enum':
      return [schema]
    case 'array':
      return namedTypes(schema.items)
    case 'map':
      return namedTypes(schema.values)
    case 'nullable':
      return namedTypes(schema.of)
    default:
      return []
  }
}

function readLock(root: string): LockEntry[] {
  const text = read(join(root, lockFile))
  if (text === undefined) return []
  try {
    const lock = JSON.parse(text) as LockEntry[]
    const problems = lock.flatMap(lockProblems)
    if (problems.length) throw new GenerateError(problems.map((problem) => `${lockFile}: ${problem}`))
    return lock
  } catch (error) {
    if (error instanceof GenerateError) throw error
    throw new GenerateError([
      `${lockFile} cannot be read (${(error as Error).message}): restore it from the last commit`,
    ])
  }
}

/** What is wrong with a row, given those before it: rows are appended and never altered. */
function lockProblems(row: LockEntry, at: number, lock: readonly LockEntry[]): string[] {
  const before = lock[at - 1]?.id ?? pinned.id - 1
  const version = lock.slice(0, at).filter(({ subject }) => subject === row.subject).length + 1
  const restore = 'restore the row as it was committed, and run `npm run generate`'
  return [
    ...(row.id > before
      ? []
      : [
          `id ${row.id} is not above ${before} of the row before: of two new rows with one id, drop the one that is not on main, and run \`npm run generate\``,
        ]),
    ...(row.version === version
      ? []
      : [`version of ${row.id} ${row.subject} is ${row.version}, not ${version}: ${restore}`]),
    ...(row.fingerprint === fingerprint(row.schema)
      ? []
      : [`the schema of ${row.id} ${row.subject} is not the one that was registered: ${restore}`]),
  ]
}

/** The lock with a row more for each schema that differs from its newest version. */
function extendLock(lock: readonly LockEntry[], events: readonly RecordSchema[]): LockEntry[] {
  const newest = new Map(lock.map((row) => [row.subject, row]))
  const names = new Set(events.map(({ name }) => name))
  const problems = [...newest.keys()]
    .filter((subject) => !names.has(subject))
    .map((subject) => `${subject} is registered and has no file: restore it, as its events are still in the topics`)
  const rows = [...lock]
  for (const event of events.toSorted((one) => (one.name === pinned.subject ? -1 : 0))) {
    const schema = normalise(event)
    const last = newest.get(event.name)
    if (last?.fingerprint === fingerprint(schema)) continue
    if (last && event.name === pinned.subject) {
      problems.push(`${pinned.subject} is built into every reader and cannot change: restore its schema`)
      continue
    }
    const id = (rows.at(-1)?.id ?? pinned.id - 1) + 1
    rows.push({ id, subject: event.name, version: (last?.version ?? 0) + 1, fingerprint: fingerprint(schema), schema })
  }
  if (rows[0]?.subject !== pinned.subject) problems.push(`${pinned.subject} is missing: it has the id ${pinned.id}`)
  problems.push(...rows.slice(lock.length).flatMap(loadProblem))
  if (problems.length) throw new GenerateError(problems)
  return rows
}

/** Some faults are seen only by the codec, such as a default of another type than its field. */
function loadProblem(row: LockEntry): string[] {
  try {
    createCodec([row])
    return []
  } catch (error) {
    return [`${row.subject}: ${(error as Error).message}`]
  }
}

const fingerprint = (schema: unknown): string => createHash('sha256').update(JSON.stringify(schema)).digest('hex')

/** Two lines a row, so that a new version is a diff of two added lines. */
function printLock(lock: readonly LockEntry[]): string {
  const rows = lock.map(
    ({ schema, ...row }) => `${JSON.stringify(row).slice(0, -1)},\n "schema":${JSON.stringify(schema)}}`,
  )
  return `[\n${rows.join(',\n')}\n]\n`
}

function printTypes(events: readonly RecordSchema[]): string {
  const types = new Map(events.flatMap(namedTypes).map((schema) => [schema.name, schema]))
  const sorted = [...types.values()].sort((one, other) => (shortName(one.name) < shortName(other.name) ? -1 : 1))
  const names = events.map(({ name }) => shortName(name)).sort()
  return `${[
    '// Written by `npm run generate` from schemas/. Changes made here are lost.',
    ...sorted.map(printType),
    `/** Every event by its name. */\nexport interface EventTypes {\n${names.map((name) => `  ${name}: ${name}`).join('\n')}\n}`,
    'export type EventName = keyof EventTypes',
  ].join('\n\n')}\n`
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
    case 'fixed':
      return 'Buffer'
    case 'record':
    case 'enum':
      return shortName(schema.name)
    default:
      return scalarTypes[schema.kind]
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false }, help: { type: 'boolean' } } })
  if (values.help) return console.log(help)
  const lines = await generate({ check: values.check })
  if (!values.check) return console.log(lines.length ? lines.join('\n') : 'nothing to do, everything is fresh')
  if (lines.length === 0) return console.log('schemas, lock and types are fresh')
  console.error(lines.join('\n'))
  process.exitCode = 1
}

// As a command, which `npm run generate` imports; tests import it, too.
if (process.argv[1] === import.meta.filename) {
  main().catch((error: unknown) => {
    // a known fault is told in its own words, anything else with its stack
    const known = error instanceof GenerateError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS')
    console.error(known ? (error as Error).message : error)
    process.exitCode = 1
  })
}
