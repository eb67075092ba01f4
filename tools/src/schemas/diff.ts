import { parseArgs } from 'node:util'
import { incompatibilities } from '@shopstream/events/compatibility'
import { normalise, parseSchema, type Schema, shortName } from '@shopstream/events/schema'
import { UsageError } from '../terminal/options.ts'
import { eventsOf, pathOf, readSchemaFiles, workspace } from './files.ts'
import { lockFile, readLock } from './lock.ts'

/** A form of an event: a row of the lock, or its file as it is now. */
interface Form {
  readonly name: string
  readonly schema: unknown
}

export interface Change {
  readonly what: 'added' | 'removed' | 'changed'
  /** `lines[].unitPrice.amount`; empty for the record itself. */
  readonly path: string
  readonly from?: string
  readonly to?: string
}

export interface Difference {
  event: string
  from: string
  to: string
  changes: Change[]
  /** What keeps the newer form from reading the older, and the reverse. */
  backward: { type: string; message: string }[]
  forward: { type: string; message: string }[]
}

/**
 * How two forms of an event differ. A form is a version of the lock or `file`; by default the file and the version that
 * it follows, or, when it is registered, its last two versions. Throws {@link UsageError} when there is no such form.
 */
export function diff(root: string, event: string, from?: string, to?: string): Difference {
  const [older, newer] = chosen(formsOf(root, event), from, to)
  return {
    event,
    from: older.name,
    to: newer.name,
    changes: changesBetween(older.schema, newer.schema),
    backward: incompatibilities(newer.schema, older.schema).map(({ type, message }) => ({ type, message })),
    forward: incompatibilities(older.schema, newer.schema).map(({ type, message }) => ({ type, message })),
  }
}

function formsOf(root: string, event: string): Form[] {
  const files = readSchemaFiles(root)
  const { lock } = readLock(root)
  const rows = lock.filter(({ subject }) => [subject, shortName(subject)].includes(event))
  const file = eventsOf(files).find(({ name }) => [name, shortName(name)].includes(event))
  const broken = files.find(({ path, problem }) => problem !== undefined && path.endsWith(`/${shortName(event)}.avsc`))
  if (broken) throw new UsageError(`${broken.path} is no schema: ${broken.problem}`)
  if (rows.length === 0 && !file) {
    const known = [...new Set(lock.map(({ subject }) => shortName(subject)))].sort()
    throw new UsageError(`there is no event ${event}; there are ${known.join(', ')}`)
  }
  return [
    ...rows.map(({ version, schema }) => ({ name: `version ${version}`, schema })),
    ...(file ? [{ name: 'file', schema: normalise(file) }] : []),
  ]
}

function chosen(forms: readonly Form[], from?: string, to?: string): [Form, Form] {
  const named = (name: string): Form => {
    const form = forms.find((one) => one.name === name || one.name === `version ${name.replace(/^v/, '')}`)
    if (form) return form
    throw new UsageError(`there is no ${name} of it; there are ${forms.map((one) => one.name).join(', ')}`)
  }
  if (from !== undefined && to !== undefined) return [named(from), named(to)]
  const distinct = forms.filter(({ schema }, at) => JSON.stringify(schema) !== JSON.stringify(forms[at - 1]?.schema))
  const [older, newer] = [distinct.at(-2), distinct.at(-1)]
  if (older && newer) return [older, newer]
  const only = newer ?? (forms[0] as Form)
  return [only, only]
}

function changesBetween(older: unknown, newer: unknown): Change[] {
  const [before, after] = [flatten(parseSchema(older)), flatten(parseSchema(newer))]
  return [
    ...[...before].flatMap(([path, from]): Change[] => {
      const to = after.get(path)
      if (to === undefined) return [{ what: 'removed', path, from }]
      return to === from ? [] : [{ what: 'changed', path, from, to }]
    }),
    ...[...after].flatMap(([path, to]): Change[] => (before.has(path) ? [] : [{ what: 'added', path, to }])),
  ]
}

/** Each place of a schema with what is there, in words. */
function flatten(schema: Schema, path = '', more = ''): Map<string, string> {
  const own: [string, string] = [path, `${inWords(schema)}${more}`]
  return new Map([own, ...parts(schema, path)])
}

function parts(schema: Schema, path: string): [string, string][] {
  switch (schema.kind) {
    case 'nullable':
      return parts(schema.of, path)
    case 'array':
      return parts(schema.items, `${path}[]`)
    case 'map':
      return parts(schema.values, `${path}{}`)
    case 'record':
      return schema.fields.flatMap((field) => {
        const standIn = 'default' in field ? `, default ${JSON.stringify(field.default)}` : ''
        const aliases = field.aliases.length ? `, also known as ${field.aliases.join(', ')}` : ''
        return [...flatten(field.type, path ? `${path}.${field.name}` : field.name, `${standIn}${aliases}`)]
      })
    default:
      return []
  }
}

function inWords(schema: Schema): string {
  const aliases = 'aliases' in schema && schema.aliases.length ? ` (also known as ${schema.aliases.join(', ')})` : ''
  switch (schema.kind) {
    case 'nullable':
      return `${inWords(schema.of)} or null`
    case 'array':
      return `list of ${inWords(schema.items)}`
    case 'map':
      return `map of ${inWords(schema.values)}`
    case 'enum': {
      const standIn = schema.default === undefined ? '' : `, ${schema.default} for unknown ones`
      return `enum ${schema.name}${aliases} of ${schema.symbols.join(', ')}${standIn}`
    }
    case 'decimal':
      return `decimal(${schema.precision}, ${schema.scale})`
    case 'fixed':
      return `fixed ${schema.name}${aliases} of ${schema.size} bytes`
    case 'record':
      return `record ${schema.name}${aliases}`
    default:
      return schema.kind
  }
}

export const usage = `Usage: npm run schemas -- diff EVENT [FROM TO] [--json]

Says in words how two forms of an event differ, and whether each reads the other. FROM and TO are versions of
${lockFile} (1, 2, ...) or \`file\`; without them the file and the version it follows, or, when it is
registered as it is, its last two versions. Docs and layout are no part of a version: git diff shows them.

  --json   prints {event, from, to, changes: [{what, path, from, to}], backward: [{type, message}], forward}

Exit code 0; 2 when there is no such event or version.`

/** The command; returns its exit code. */
export async function diffCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { json: { type: 'boolean' } } })
  const [event, from, to] = positionals
  if (event === undefined || ![1, 3].includes(positionals.length)) {
    throw new UsageError(`diff takes an event, or an event and two versions`)
  }
  const difference = diff(workspace, event, from, to)
  console.log(values.json ? JSON.stringify(difference, null, 2) : describe(difference))
  return 0
}

function describe({ event, from, to, changes, backward, forward }: Difference): string {
  if (from === to) return `${event} has one form alone: ${from}.`
  const lines = changes.map((change) => {
    const path = change.path || event
    if (change.what === 'added') return `  + ${path}: ${change.to}`
    if (change.what === 'removed') return `  - ${path}: ${change.from}`
    return `  ~ ${path}: was ${change.from}; is ${change.to}`
  })
  const verdict = (reader: string, writer: string, found: Difference['backward']) => [
    `${reader} ${found.length === 0 ? 'reads' : 'does not read'} what was written with ${writer}`,
    ...found.map(({ type, message }) => `  ${type}: ${message}`),
  ]
  return [
    `${event}: from ${from} to ${to}`,
    ...(lines.length ? lines : ['  only the order of fields differs, or nothing at all']),
    ...verdict(to, from, backward),
    ...verdict(from, to, forward),
    `(docs: git diff ${eventPath(event)})`,
  ].join('\n')
}

const eventPath = (event: string) => (event.includes('.') ? pathOf(event) : `schemas/*/${event}.avsc`)
