import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Topic } from '@shopstream/events'
import type { LockEntry } from '@shopstream/events/codec'
import { breakages, listed, type Parties, tellBreakage, undeclaredFields } from '@shopstream/events/contract'
import { normalise, type RecordSchema, shortName } from '@shopstream/events/schema'
import { type Golden, goldenFile, goldenFolder } from '@shopstream/testing/golden'
import { partiesOf, readWiring } from '@shopstream/testing/wiring'
import {
  eventsOf,
  fileFindings,
  pathOf,
  readIfThere,
  readSchemaFiles,
  type SchemaFile,
  workspace,
  write,
} from './files.ts'
import { type Finding, listedRules, printFindings } from './findings.ts'
import { type Base, basesOf } from './history.ts'
import { loadProblem, lockFile, newRows, pinned, readLock, unreadable } from './lock.ts'
import {
  readTopics,
  readTopicsLock,
  type TopicsLock,
  topicFindings,
  topicsFile,
  topicsHistory,
  topicsLockFile,
} from './topics-lock.ts'
import type { ServiceWiring } from './wiring.ts'

export type { Finding } from './findings.ts'

export interface CheckOptions {
  /** Top of the workspace. */
  root: string
  /** The commit to compare the locks with; by default where this branch left main. */
  base?: string
  /** By default those of the workspace's services and its `topics.ts`. */
  wiring?: ServiceWiring[]
  topics?: readonly Topic[]
  /** Is told what could not be checked, and why. */
  note?: (text: string) => void
}

/**
 * Everything that is wrong with the schemas, their locks and the tables that name them; empty when nothing is. Writes
 * nothing. Throws `UsageError` when `base` is no commit.
 */
export async function checkSchemas(options: CheckOptions): Promise<Finding[]> {
  const { root } = options
  const files = readSchemaFiles(root)
  const { lock, findings: lockFindings, isReadable } = readLock(root)
  // what compares with it, or loads it, would find everything wrong and give the wrong advice
  if (!isReadable) return [...lockFindings, ...fileFindings(files)]
  const topicsLock = attemptTopicsLock(root)
  const topics = await orFinding(async () => options.topics ?? (await readTopics(root)), topicsFile)
  const wiring = await orFinding(async () => options.wiring ?? (await readWiring(root)), 'services')
  const { bases, note } = basesOf(root, options.base)
  if (note) options.note?.(note)
  const services = (event: string) => partiesOf(wiring.value ?? [], event)
  const events = eventsOf(files)
  const broken = events.flatMap((event) => compatibility(event, lock, topics.value ?? [], services))
  const registrable = events.filter(({ name }) => !broken.some(({ subject }) => subject === name))
  return [
    ...lockFindings,
    ...[topicsLock, topics, wiring].flatMap(({ finding }) => finding ?? []),
    ...bases.flatMap((base) => historyFindings(base, lock, topicsLock.value)),
    ...fileFindings(files),
    ...removed(files, lock, wiring.value ?? [], services),
    ...broken,
    ...unregistered(lock, registrable),
    ...goldenFindings(root, lock),
    ...(wiring.value ?? []).flatMap((one) => unknownFields(one, events)),
    ...(topics.value ? placement(topics.value, files, lock) : []),
    ...(topics.value && topicsLock.value
      ? topicFindings(topicsLock.value, topics.value, (names) => ofTopic(names, services))
      : []),
  ]
}

interface Attempt<T> {
  value?: T
  finding?: Finding
}

function attemptTopicsLock(root: string): Attempt<TopicsLock> {
  try {
    return { value: readTopicsLock(root) }
  } catch (error) {
    const text = readIfThere(join(root, topicsLockFile)) ?? ''
    return { finding: unreadable(topicsLockFile, text, (error as Error).message) }
  }
}

async function orFinding<T>(read: () => Promise<T>, path: string): Promise<Attempt<T>> {
  try {
    return { value: await read() }
  } catch (error) {
    const message = `cannot be read, so what it says was not checked: ${(error as Error).message}`
    return { finding: { rule: 'wiring', path, message } }
  }
}

/** Who reads and who writes an event, by its short name. */
type Services = (event: string) => Parties

function ofTopic(events: readonly string[], services: Services) {
  const parties = events.map(services)
  const consumers = [...new Set(parties.flatMap((one) => one.consumers))]
  const producers = [...new Set(parties.flatMap((one) => one.producers))]
  return { consumers, producers, words: `Consumers: ${listed(consumers)}; producers: ${listed(producers)}` }
}

/** What is in an earlier state and is not the same today. */
function historyFindings(base: Base, lock: readonly LockEntry[], topicsLock: TopicsLock | undefined): Finding[] {
  const before = base.read(lockFile)
  const beforeTopics = base.read(topicsLockFile)
  const rows = before === undefined ? [] : (JSON.parse(before) as LockEntry[])
  const altered = rows
    .filter((row, at) => JSON.stringify(lock[at]) !== JSON.stringify(row))
    .map(({ id, subject, version }): Finding => {
      const message =
        `row ${id} (${subject} version ${version}) is not as it is in ${base.ref}: rows are never altered, moved or ` +
        'removed, as messages with that id are in the topics. Restore it; then `npm run schemas -- register` appends what is new'
      return { rule: 'lock-history', path: lockFile, subject, message }
    })
  const golden = base.changed(goldenFolder).map((path): Finding => {
    const message = `is not as it is in ${base.ref}: golden bytes are what was once written, so they are never made anew. Restore it`
    return { rule: 'golden', path, message }
  })
  const topics = beforeTopics && topicsLock ? topicsHistory(JSON.parse(beforeTopics), topicsLock, base.ref) : []
  return [...altered, ...golden, ...topics]
}

/** Events without a file, that are registered or that a service declares. */
function removed(
  files: readonly SchemaFile[],
  lock: readonly LockEntry[],
  wiring: readonly ServiceWiring[],
  services: Services,
): Finding[] {
  const present = new Set(
    files.map(({ path, event }) => shortName(event?.name ?? path.slice(0, -'.avsc'.length).replaceAll('/', '.'))),
  )
  const subjects = new Set(files.map(({ event }) => event?.name))
  const paths = new Set(files.map(({ path }) => path))
  const registered = [...new Set(lock.map(({ subject }) => subject))]
    .filter((subject) => !subjects.has(subject) && !paths.has(pathOf(subject)))
    .map((subject): Finding => {
      const parties = services(shortName(subject))
      const message =
        `${shortName(subject)} is registered and has no file, and its messages are still in the topics. ` +
        `Consumers: ${listed(parties.consumers)}; producers: ${listed(parties.producers)}. Restore ${pathOf(subject)}; ` +
        'to end an event, say in its doc that it is deprecated and take it out of the tables'
      return { rule: 'removed', subject, path: pathOf(subject), message, ...parties }
    })
  const known = new Set([...present, ...lock.map(({ subject }) => shortName(subject))])
  const declared = wiring.flatMap(({ service, produces, consumes }) => [
    ...produces.map((event) => ({ service, event, verb: 'produces', file: 'produces.ts' })),
    ...consumes.map(({ event }) => ({ service, event, verb: 'consumes', file: 'consumes.ts' })),
  ])
  return [
    ...registered,
    ...declared
      .filter(({ event }) => !known.has(event))
      .map(({ service, event, verb, file }): Finding => {
        const message = `${service} ${verb} ${event}, which has no file below schemas/: add it (npm run schemas -- new ${event} --topic TOPIC), or take it out of the table`
        const parties = verb === 'consumes' ? { consumers: [service] } : { producers: [service] }
        return { rule: 'removed', path: `services/${service}/src/${file}`, message, ...parties }
      }),
  ]
}

/** Whether an event fits each of its registered versions, in both directions: FULL_TRANSITIVE. */
function compatibility(
  event: RecordSchema,
  lock: readonly LockEntry[],
  topics: readonly Topic[],
  services: Services,
): Finding[] {
  const versions = lock.filter(({ subject }) => subject === event.name)
  const now = normalise(event)
  const last = versions.at(-1)
  const about = { subject: event.name, path: pathOf(event.name) }
  if (last && event.name === pinned.subject && JSON.stringify(last.schema) !== JSON.stringify(now)) {
    const message = 'is built into every reader and cannot change: restore its schema'
    return [{ rule: 'pinned', ...about, message }]
  }
  const parties = services(shortName(event.name))
  const topic = topics.find(({ events }) => (events as readonly string[]).includes(shortName(event.name)))?.name
  return breakages(now, versions).map((breakage): Finding => {
    const place = { event: shortName(event.name), path: 'this file', topic, ...parties }
    return { rule: 'compatibility', ...about, message: tellBreakage(breakage, place), ...parties }
  })
}

/** Events that the lock does not have in their newest form, or cannot have. */
function unregistered(lock: readonly LockEntry[], events: readonly RecordSchema[]): Finding[] {
  return newRows(lock, events).map((row): Finding => {
    const about = { subject: row.subject, path: pathOf(row.subject) }
    const problem = loadProblem(row)
    if (problem) return { rule: 'schema', ...about, message: `${row.subject}: ${problem}` }
    const message = `version ${row.version} is not in the lock: run \`npm run schemas -- register\``
    return { rule: 'unregistered', ...about, message }
  })
}

/** Rows without golden bytes, and golden bytes that are not of a row. */
function goldenFindings(root: string, lock: readonly LockEntry[]): Finding[] {
  const rows = new Map(lock.map((row) => [goldenFile(row), row]))
  const missing = [...rows].filter(([path]) => readIfThere(join(root, path)) === undefined)
  const foreign = globSync(`${goldenFolder}/*.json`, { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => idIn(join(root, path)) !== rows.get(path)?.id)
  return [
    ...missing.map(([path, { subject }]): Finding => {
      return { rule: 'golden-missing', subject, path, message: 'is missing: run `npm run schemas -- register`' }
    }),
    ...foreign.map((path): Finding => {
      const message =
        'belongs to no row of the lock: restore the row if it is on main; delete this file if it was left by a `register` that was undone'
      return { rule: 'golden', path, message }
    }),
  ]
}

/** The schema's id that golden bytes name; undefined when the file is no JSON. */
function idIn(file: string): number | undefined {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as Golden).schemaId
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** Fields that a service uses and that the event does not have. */
function unknownFields({ service, consumes }: ServiceWiring, events: readonly RecordSchema[]): Finding[] {
  return consumes.flatMap(({ event, fields }) => {
    const schema = events.find(({ name }) => shortName(name) === event)
    if (!schema) return []
    const declared = schema.fields.map(({ name }) => name)
    return undeclaredFields({ service, event, fields }, pathOf(schema.name), declared).map((message): Finding => {
      const path = `services/${service}/src/consumes.ts`
      return { rule: 'wiring', subject: schema.name, path, message, consumers: [service] }
    })
  })
}

/** Events in no topic or in two, and topics of events that do not exist. */
function placement(topics: readonly Topic[], files: readonly SchemaFile[], lock: readonly LockEntry[]): Finding[] {
  const listed = topics.flatMap(({ name, events }) => events.map((event: string) => ({ topic: name, event })))
  const subjects = new Set([...eventsOf(files).map(({ name }) => name), ...lock.map(({ subject }) => subject)])
  const known = new Set([...subjects].map(shortName))
  const misplaced = eventsOf(files).flatMap(({ name }): Finding[] => {
    const places = listed.filter(({ event }) => event === shortName(name)).map(({ topic }) => topic)
    if (places.length === 1) return []
    const message = places.length
      ? `${shortName(name)} is in several topics (${places.join(', ')}): leave it in one`
      : `${shortName(name)} is in no topic: list it in ${topicsFile}`
    return [{ rule: 'topic', subject: name, path: topicsFile, message }]
  })
  const unknown = listed
    .filter(({ event }) => !known.has(event) && !files.some(({ path }) => path.endsWith(`/${event}.avsc`)))
    .map(({ topic, event }): Finding => {
      const message = `${topic} lists ${event}, which has no file below schemas/: add it (npm run schemas -- new), or take it off the list`
      return { rule: 'topic', path: topicsFile, message }
    })
  return [...misplaced, ...unknown]
}

export const usage = `Usage: npm run schemas -- check [--base REF] [--fix] [--json]

Says everything that is wrong with schemas/, the locks, the topics and the services' tables. Its rules:
${listedRules()}
What is marked with + is mended by \`npm run schemas -- register\`.

  --base REF  the commit whose locks today's must begin with; by default where this branch left main, and on main
              its last commit and the one before
  --fix       lays out the files first
  --json      prints a list of {rule, subject, path, message, consumers, producers} to stdout

Exit code 0 when nothing is wrong, 1 with every finding, 2 for arguments that make no sense.`

/** The command; returns its exit code. */
export async function check(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { base: { type: 'string' }, fix: { type: 'boolean' }, json: { type: 'boolean' } },
  })
  if (values.fix) for (const path of fixLayout(workspace)) console.error(`${path}: laid out`)
  const findings = await checkSchemas({
    root: workspace,
    ...(values.base !== undefined && { base: values.base }),
    note: (text) => console.error(`Note: ${text}.`),
  })
  if (values.json) console.log(JSON.stringify(findings, null, 2))
  else if (findings.length === 0) console.log('Schemas, locks, topics and tables are in order.')
  else
    console.error(
      `${printFindings(findings)}\n\n${findings.length} finding(s); how to change an event: docs/schemas.md`,
    )
  return findings.length === 0 ? 0 : 1
}

/** Brings the files into the one layout; returns those that it wrote. Files that are refused stay as they are. */
export function fixLayout(root: string): string[] {
  return readSchemaFiles(root).flatMap(({ path, text, tidy }) => {
    if (tidy === undefined || tidy === text) return []
    write(join(root, path), tidy)
    return [path]
  })
}
