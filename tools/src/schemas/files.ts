import { globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readJson } from '@shopstream/events/read-json'
import { type EnumSchema, parseSchema, type RecordSchema, type Schema, shortName } from '@shopstream/events/schema'
import type { Finding } from './findings.ts'
import { layOut } from './layout.ts'

/** Top of the workspace that these commands belong to. */
export const workspace = join(import.meta.dirname, '../../..')

/** An `.avsc` file of `schemas/`. */
export interface SchemaFile {
  /** From the top of the workspace. */
  readonly path: string
  readonly text: string
  /** The text in the one layout. Absent, as is `event`, when the file is refused: `problem` says why. */
  readonly tidy?: string
  readonly event?: RecordSchema
  readonly problem?: string
}

/** Every schema of an event, by path. */
export function readSchemaFiles(root: string): SchemaFile[] {
  return globSync('schemas/**/*.avsc', { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .sort()
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8')
      try {
        return { path, text, tidy: layOut(text), event: parseSchema(readJson(text)) }
      } catch (error) {
        return { path, text, problem: (error as Error).message }
      }
    })
}

/** The JSON Schemas that are there, from the top of the workspace. */
export const jsonSchemaFiles = (root: string): string[] =>
  globSync('schemas/*/*.schema.json', { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .sort()

/** The schemas among the files that are any. */
export const eventsOf = (files: readonly SchemaFile[]): RecordSchema[] => files.flatMap(({ event }) => event ?? [])

/** What is wrong with the files as such, without regard to lock, topics and services. */
export function fileFindings(files: readonly SchemaFile[]): Finding[] {
  return [...files.flatMap(ownFindings), ...clashes(files)]
}

function ownFindings(file: SchemaFile): Finding[] {
  const { path, text, tidy, event, problem } = file
  if (!event) return [{ rule: 'schema', path, message: `${problem}. Such a schema is refused; see schemas/README.md` }]
  const about = { path, subject: event.name }
  const expected = subjectOf(path)
  const misnamed: Finding = {
    rule: 'name',
    ...about,
    message: `the record is named ${event.name}, by its path it is ${expected}: give it that name, or the file its old path`,
  }
  const untidy: Finding = {
    rule: 'layout',
    ...about,
    message: 'is not laid out as all others are: run `npm run schemas -- check --fix`',
  }
  return [
    ...(event.name === expected ? [] : [misnamed]),
    ...undocumented(event).map((name): Finding => {
      return { rule: 'documentation', ...about, message: `${name} has no doc: say what it means, with unit and range` }
    }),
    ...(text === tidy ? [] : [untidy]),
  ]
}

/** The subject that a file has by its path. */
function subjectOf(path: string): string {
  const place = path.slice('schemas/'.length, -'.avsc'.length)
  return `shopstream.${place.replaceAll('/', '.').replaceAll('-', '_')}`
}

/** The file that a subject has. */
export function pathOf(subject: string): string {
  const [, aggregate = '', event] = subject.split('.')
  return `schemas/${aggregate.replaceAll('_', '-')}/${event}.avsc`
}

const undocumented = (event: RecordSchema): string[] =>
  namedTypes(event).flatMap((schema) => [
    ...(schema.doc?.trim() ? [] : [schema.name]),
    ...(schema.kind === 'record' ? schema.fields : []).flatMap(({ name, doc }) =>
      doc?.trim() ? [] : [`${schema.name}.${name}`],
    ),
  ])

/** Names of `generated/events.ts` that are no event's: those that it uses and those that it defines. */
const ownNames: readonly string[] = ['Record', 'EventTypes', 'EventName', 'EventDefaults']

/** Why no record or enum can have this name in TypeScript; undefined when it can. It would stand for the other thing there. */
export function takenBy(name: string): string | undefined {
  if (name in globalThis) return 'JavaScript'
  if (ownNames.includes(name)) return 'the generated types'
  return /^[A-Z]/.test(name) ? undefined : 'words of TypeScript, which begin with a small letter'
}

/** Types that TypeScript has already, and types of different events that would be one there and are not the same. */
function clashes(files: readonly SchemaFile[]): Finding[] {
  const seen = new Map<string, { text: string; path: string }>()
  return files.flatMap(({ path, event }) =>
    (event ? namedTypes(event) : []).flatMap((schema): Finding[] => {
      const about = { path, ...(event && { subject: event.name }) }
      const taken = takenBy(shortName(schema.name))
      if (taken !== undefined) {
        const message =
          `${schema.name} would be ${shortName(schema.name)} in TypeScript, which is taken by ${taken}: give it a name ` +
          'of its own in PascalCase, such as that of the event followed by what it is'
        return [{ rule: 'clash', ...about, message }]
      }
      const text = JSON.stringify(schema)
      const before = seen.get(shortName(schema.name))
      seen.set(shortName(schema.name), before ?? { text, path })
      if (before === undefined || before.text === text) return []
      const message =
        `${schema.name} is defined in different ways here and in ${before.path}: ` +
        'make the definitions equal (also their docs), or give one of them another name'
      return [{ rule: 'clash', ...about, message }]
    }),
  )
}

export type NamedSchema = RecordSchema | EnumSchema

/** A schema's own named types and those in it, parts first. */
export function namedTypes(schema: Schema): NamedSchema[] {
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

/** The text of a file; undefined when there is none. */
export function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Writes a file as a whole: it is never seen half written. */
export function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}
