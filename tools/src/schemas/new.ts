import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { parseSchema, shortName } from '@shopstream/events/schema'
import { UsageError } from '../terminal/options.ts'
import { eventsOf, namedTypes, pathOf, readIfThere, readSchemaFiles, takenBy, workspace, write } from './files.ts'
import { layOut } from './layout.ts'
import { readLock } from './lock.ts'
import { topicsFile } from './topics-lock.ts'

export interface NewEvent {
  /** Top of the workspace. */
  root: string
  /** In the past tense: `OrderReturned`. */
  event: string
  topic: string
  /** By default the one service that produces the topic's other events. */
  producer?: string
  /** What has happened when there is such an event. */
  doc?: string
}

/**
 * Adds an event: its schema, its place in the topic, its row in the producer's table, and what nx watches for the
 * producer's contract test. Returns the files that it wrote, the schema first. Throws {@link UsageError}, having written
 * nothing, when anything of it is there already or cannot be.
 */
export function newEvent({ root, event, topic, producer, doc }: NewEvent): string[] {
  requireFree(root, event)
  const { text: topics, events: siblings } = withTopicEvent(readFileSync(join(root, topicsFile), 'utf8'), topic, event)
  const subject = `shopstream.${aggregateOf(topic).replaceAll('-', '_')}.${event}`
  const service = producer ?? producerOf(root, siblings, topic)
  const table = `services/${service}/src/produces.ts`
  const settings = `services/${service}/package.json`
  const files = {
    [pathOf(subject)]: schemaText(root, subject, topic, siblings, doc),
    [topicsFile]: topics,
    [table]: withProducedEvent(root, table, event),
    [settings]: withWatchedFiles(readFileSync(join(root, settings), 'utf8'), subject),
  }
  for (const [file, text] of Object.entries(files)) write(join(root, file), text)
  return Object.keys(files)
}

function requireFree(root: string, event: string): void {
  if (!/^[A-Z][a-z0-9]+([A-Z][a-z0-9]*)+$/.test(event)) {
    throw new UsageError(
      `${event} is no name of an event: two words or more in PascalCase, the last in the past tense, such as OrderReturned`,
    )
  }
  const by = takenBy(event)
  if (by !== undefined) throw new UsageError(`${event} is taken by ${by}: take another name`)
  const taken = [
    ...eventsOf(readSchemaFiles(root)).flatMap(namedTypes),
    ...readLock(root).lock.map(({ subject }) => ({ name: subject })),
  ].find(({ name }) => shortName(name) === event)
  if (taken) throw new UsageError(`${event} is there already, as ${taken.name}: take another name, or change that one`)
}

function aggregateOf(topic: string): string {
  const aggregate = /^shop\.([a-z][a-z0-9-]*)\.v[0-9]+$/.exec(topic)?.[1]
  if (aggregate === undefined) throw new UsageError(`${topic} is no topic: shop.AGGREGATE.vN, such as shop.order.v1`)
  return aggregate
}

/** A row of `topics.ts`, up to the bracket of its list, and the list. */
const topicRow = /^( *(?:compacted|kept)\('([^']+)', '([^']+)', )\[([^\]]*)\]/gm

/** The text of `topics.ts` with an event more, and the topic's other events. */
function withTopicEvent(text: string, topic: string, event: string): { text: string; events: string[] } {
  const rows = [...text.matchAll(topicRow)]
  const row = rows.find(([, , name]) => name === topic)
  if (!row) {
    const names = rows.map(([, , name]) => name).join(', ')
    throw new UsageError(`there is no topic ${topic}; there are ${names}. A new one is a row of ${topicsFile}`)
  }
  const [all, start = '', , , list = ''] = row
  const events = namesIn(list)
  if (events.includes(event)) throw new UsageError(`${topic} lists ${event} already, in ${topicsFile}`)
  const rest = restOfLine(text, row.index + all.length)
  return { text: text.replace(all, () => start + printList([...events, event], start, rest)), events }
}

const namesIn = (list: string): string[] => [...list.matchAll(/'([^']+)'/g)].map(([, name]) => name as string)

const restOfLine = (text: string, at: number): string => text.slice(at).split('\n', 1)[0] as string

/** A list of names as biome has it: on the line where it fits, else one name a line. */
function printList(names: readonly string[], start: string, rest: string): string {
  const quoted = names.map((name) => `'${name}'`)
  const line = `[${quoted.join(', ')}]`
  if (start.length + line.length + rest.length <= 120) return line
  const indent = /^ */.exec(start)?.[0] ?? ''
  return `[\n${quoted.map((name) => `${indent}  ${name},\n`).join('')}${indent}]`
}

const producesRow = /^(.*producer\('([^']+)', )\[([^\]]*)\]/m

function producerOf(root: string, siblings: readonly string[], topic: string): string {
  const services = globSync('services/*/src/produces.ts', { cwd: root })
    .filter((file) => {
      const list = producesRow.exec(readFileSync(join(root, file), 'utf8'))?.[3] ?? ''
      return namesIn(list).some((event) => siblings.includes(event))
    })
    .map((file) => basename(dirname(dirname(file))))
  const [only, ...others] = services
  if (only !== undefined && others.length === 0) return only
  const found = services.length === 0 ? 'no service produces' : `${services.join(' and ')} produce`
  throw new UsageError(`${found} the other events of ${topic}: say which one produces this, with --producer SERVICE`)
}

function withProducedEvent(root: string, file: string, event: string): string {
  const text = readIfThere(join(root, file))
  if (text === undefined) {
    const services = globSync('services/*/src/produces.ts', { cwd: root }).map((one) => basename(dirname(dirname(one))))
    throw new UsageError(`${file} is missing: the services that produce are ${services.sort().join(', ')}`)
  }
  const row = producesRow.exec(text)
  if (!row) throw new UsageError(`${file} has no \`producer('SERVICE', [...])\` to add ${event} to`)
  const [all, start = '', , list = ''] = row
  if (namesIn(list).includes(event)) throw new UsageError(`${file} lists ${event} already`)
  const rest = restOfLine(text, row.index + all.length)
  return text.replace(all, () => start + printList([...namesIn(list), event], start, rest))
}

/** The producer's package.json, so that nx runs its contract test when the event changes. */
function withWatchedFiles(text: string, subject: string): string {
  const settings = JSON.parse(text)
  const contracts: string[] | undefined = settings.nx?.namedInputs?.contracts
  if (contracts === undefined) return text
  settings.nx.namedInputs.contracts = [...contracts, watchedFiles(subject)].toSorted()
  return `${JSON.stringify(settings, null, 2)}\n`
}

/** The pattern of an event's files, by which nx knows whose contracts to test. */
export function watchedFiles(subject: string): string {
  const event = shortName(subject)
  return `{workspaceRoot}/schemas/{${basename(dirname(pathOf(subject)))},golden}/{${event},*.${event}}.*`
}

function schemaText(root: string, subject: string, topic: string, siblings: readonly string[], doc?: string): string {
  const event = shortName(subject)
  const words = event.split(/(?=[A-Z])/)
  const verb = (words.at(-1) as string).toLowerCase()
  const subjectWords = words.slice(0, -1).join(' ').toLowerCase()
  const schema = {
    type: 'record',
    name: event,
    namespace: subject.slice(0, subject.lastIndexOf('.')),
    doc: doc ?? `${/^[aeiou]/.test(subjectWords) ? 'An' : 'A'} ${subjectWords} was ${verb}.`,
    fields: [
      keyField(root, topic, siblings),
      { name: `${verb}At`, doc: 'When this happened.', type: { type: 'long', logicalType: 'timestamp-millis' } },
    ],
  }
  parseSchema(schema)
  return layOut(JSON.stringify(schema))
}

/** The first field: the key of the topic, as the topic's other events have it. */
function keyField(root: string, topic: string, siblings: readonly string[]): unknown {
  const sibling = siblings.flatMap((event) => globSync(`schemas/*/${event}.avsc`, { cwd: root }))[0]
  if (sibling !== undefined) return JSON.parse(readFileSync(join(root, sibling), 'utf8')).fields[0]
  const key = [...readFileSync(join(root, topicsFile), 'utf8').matchAll(topicRow)].find(([, , name]) => name === topic)
  const [first = 'id', ...others] = (key?.[3] ?? 'id').split(' ')
  const name = first + others.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('')
  const type = name.endsWith('Id') ? { type: 'string', logicalType: 'uuid' } : 'string'
  return { name, doc: `The ${first}, and the key of the topic.`, type }
}

export const usage = `Usage: npm run schemas -- new EVENT --topic TOPIC [--producer SERVICE] [--doc TEXT]

Adds an event: its documented schema with the topic's key and a time, its place in ${topicsFile}, its
row in the producer's produces.ts, and what nx watches for the producer's contract test. Says what is left to do.
Never overwrites anything.

  EVENT               in the past tense: OrderReturned
  --topic TOPIC       such as shop.order.v1
  --producer SERVICE  by default the one service that produces the topic's other events
  --doc TEXT          what has happened when there is such an event

Exit code 0, or 2 with the reason, and nothing is written.`

/** The command; returns its exit code. */
export async function newCommand(args: string[]): Promise<number> {
  const text = { type: 'string' } as const
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { topic: text, producer: text, doc: text },
  })
  const [event, ...others] = positionals
  const { topic, producer, doc } = values
  if (event === undefined || others.length > 0 || topic === undefined) {
    throw new UsageError(`new takes one event and its --topic`)
  }
  const files = newEvent({ root: workspace, event, topic, ...(producer && { producer }), ...(doc && { doc }) })
  const service = basename(dirname(dirname(files[2] as string)))
  const contract = `services/${service}/src/contract.test.ts`
  const drives = existsSync(join(workspace, contract)) ? contract : `the contract test of ${service}`
  console.log(`${files.map((file) => `${file} written`).join('\n')}

What is left:
  1. Say what it tells: edit docs and fields of ${files[0]}.
  2. npm run schemas -- register      gives it an id, golden bytes and TypeScript types.
  3. Write it in ${service}: produces.emit(tx, [{ type: '${event}', ... }]), in the transaction of what it tells about.
  4. Let \`drive\` of ${drives} make the service write it: its tests are made from the table, and fail until then.
     For the tests of who consumes it: exampleEvent('${event}', key) of @shopstream/testing/contract,
     arbitraryEvent('${event}') of @shopstream/events/arbitrary.
  5. npm test -- services/${service}; npm run check`)
  return 0
}
