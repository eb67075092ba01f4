import { parseArgs } from 'node:util'
import { deadLetterTopic, type Topic, topics } from '@shopstream/events'
import { type Bus, type IncomingMessage, placeOf, typeOf, type Unreadable } from '@shopstream/messaging/operations'
import { age, bad, clock, faint, parseTime, plural, strong, timeHelp, toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { keyInWords, print, shown, typeInWords } from '../terminal/printing.ts'
import { untilInterrupted } from '../terminal/repeat.ts'
import { reasonOf } from './answers.ts'
import { readGroups } from './groups.ts'
import { type Standing, standingOf } from './lag.ts'
import { type Item, readInOrder } from './merged-reading.ts'
import { placesOf } from './partitions-of-key.ts'
import { createReader, personalHelp, type ReadEvent } from './read-event.ts'
import { reachHelp, withReach } from './shop-access.ts'
import { showCommand, unreadInWords } from './unreadable-stretches.ts'
import { writerOf } from './verdict.ts'

export const usage = `Usage: npm run shop -- tail TOPIC... [options]

Prints the decoded events of topics as they are written, until Ctrl-C. Dead letters too: shop.GROUP.dlq. Those that are
there already come in the order in which they were written, whatever their partitions.

  --key KEY       only of this key (an order's id, a sku, ...)
  --type TYPE     only of this type; may be given several times
  --event-id ID   only the event of this id
  --from TIME     also those written since then; "beginning": all that are kept. Default: only new ones
  --to-end        ends with what is there now, instead of waiting for more
  -n, --number N  ends after N events
  --json          an object a line: the headers as id, type, sequence, time, source; the payload as data
  ${personalHelp}

${timeHelp} What cannot be decoded is shown as bytes, with the reason. What cannot be read at all
is named in its place, whatever the filters, and gone on behind; with --json as {unreadable, topic, partition, firstOffset, lastOffset}.
What a transaction that somebody has left open hides is told behind what can be seen, and shown once it has ended; with --json
as {hidden, topic, partition, firstOffset, lastOffset, seconds}, of which hidden counts them.
Exit code 0.

${reachHelp}`

function cannotRead(error: unknown): never {
  throw new Refusal(`the topics cannot be read: ${reasonOf(error)}`)
}

interface Filters {
  key: string | undefined
  types: ReadonlySet<string> | undefined
  eventId: string | undefined
}

export async function tail(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      key: { type: 'string' },
      type: { type: 'string', multiple: true },
      'event-id': { type: 'string' },
      from: { type: 'string' },
      'to-end': { type: 'boolean' },
      number: { type: 'string', short: 'n' },
      json: { type: 'boolean' },
      personal: { type: 'boolean' },
    },
  })
  const chosen = await chooseTopics(positionals)
  const limit = values.number === undefined ? Number.POSITIVE_INFINITY : Number(values.number)
  if (!(limit >= 1)) throw new UsageError(`-n takes a number of events from 1 on, not ${values.number}`)
  const filters: Filters = {
    key: values.key,
    types: values.type && new Set(values.type),
    eventId: values['event-id']?.toLowerCase(),
  }
  const since = values.from === undefined ? 'end' : values.from === 'beginning' ? undefined : parseTime(values.from)
  return withReach(async ({ bus, databases }) => {
    const readEvent = createReader(databases, values.personal)
    const enough = new AbortController()
    const signal = AbortSignal.any([untilInterrupted(), enough.signal])
    let printed = 0
    const show = async (item: Item) => {
      if (signal.aborted) return
      if (item.unreadable) return print(values.json ? unreadJson(item.unreadable) : unreadLines(item.unreadable))
      const event = await readEvent(item.message)
      print(values.json ? toJson(event) : lineOf(event))
      printed += 1
      if (printed >= limit) enough.abort()
    }
    await tailTopics(bus, chosen, { ...filters, since, toEnd: values['to-end'] === true, signal, show }, (hidden) =>
      print(values.json ? hiddenJson(hidden) : hiddenLines(hidden)),
    ).catch(cannotRead)
    return 0
  })
}

interface Tailing extends Filters {
  since: Date | 'end' | undefined
  toEnd: boolean
  signal: AbortSignal
  show(item: Item): Promise<void>
}

/** What is there in the order in which it was written, then what comes, as it comes. */
async function tailTopics(
  bus: Bus,
  chosen: readonly Topic[],
  { since, toEnd, signal, show, ...filters }: Tailing,
  tellHidden: (hidden: Standing) => void,
): Promise<void> {
  const topics = chosen.map(({ name }) => name)
  const positions = await bus.positions(undefined, topics)
  const places = filters.key === undefined ? positions : await placesOf(bus, chosen, filters.key)
  const reached = new Map<string, bigint>()
  const wanted = (message: IncomingMessage) => fits(message, filters)
  if (since !== 'end') {
    const there = readInOrder(bus, { places, ...(since && { from: since }), fits: wanted, signal }, reached)
    for await (const item of there) {
      await show(item)
      if (signal.aborted) return
    }
  }
  if (signal.aborted) return // it ends the reading as well
  for (const hidden of await hiddenFrom(bus, places)) tellHidden(hidden)
  if (toEnd) return
  await bus.read({
    topics,
    ...(since && { from: since }),
    partitions: places.map(({ topic, partition }) => {
      const from = reached.get(placeOf({ topic, partition }))
      return { topic, partition, ...(from !== undefined && { from }) }
    }),
    signal,
    async handle(messages) {
      for (const message of messages.filter(wanted)) await show({ message })
    },
    unreadable: (unreadable) => show({ unreadable }),
  })
}

/** What an open transaction hides of these partitions. */
async function hiddenFrom(bus: Bus, places: readonly { topic: string; partition: number }[]): Promise<Standing[]> {
  const wanted = new Set(places.map(placeOf))
  const topics = [...new Set(places.map(({ topic }) => topic))]
  const positions = (await bus.positions(undefined, topics)).filter((one) => wanted.has(placeOf(one)))
  if (positions.every(({ stableEnd, end }) => stableEnd >= end)) return []
  return (await standingOf(bus, undefined, topics)).filter((one) => one.hidden > 0n && wanted.has(placeOf(one)))
}

/** The topics of these names. Throws a UsageError for one that is no topic of the shop. */
async function chooseTopics(names: string[]): Promise<Topic[]> {
  const known = [...topics, ...(await readGroups()).map(({ group }) => deadLetterTopic(group))]
  const all = known.map(({ name }) => `  ${name}`).join('\n')
  if (names.length === 0) throw new UsageError(`Which topics? There are:\n${all}`)
  return names.map((wanted) => {
    const found = known.find(({ name }) => name === wanted)
    if (!found) throw new UsageError(`There is no topic ${wanted}. There are:\n${all}`)
    return found
  })
}

const hiddenJson = ({ topic, partition, hidden, end, hiddenSeconds: seconds }: Standing) =>
  toJson({ hidden, topic, partition, firstOffset: end - hidden, lastOffset: end - 1n, seconds })

const hiddenLines = ({ topic, partition, hidden, end, hiddenSeconds }: Standing) =>
  bad(
    `${topic}/${partition}@${end - hidden}: ${plural(hidden, 'message')} cannot be seen behind a transaction that has been open for ${age(hiddenSeconds)}`,
  )

const unreadJson = ({ topic, partition, firstOffset, lastOffset, reason }: Unreadable) =>
  toJson({ unreadable: reason, topic, partition, firstOffset, lastOffset })

const unreadLines = (found: Unreadable) => `${bad(unreadInWords(found))}\n  ${faint(`→ ${showCommand(found)}`)}`

function fits({ key, headers }: IncomingMessage, filters: Filters): boolean {
  return (
    (filters.key === undefined || key === filters.key) &&
    (filters.types === undefined || filters.types.has(typeOf(headers) ?? '')) &&
    (filters.eventId === undefined || headers.ce_id?.toString().toLowerCase() === filters.eventId)
  )
}

const shownBytes = 200

/** An event in two lines: what and where, and its payload. */
function lineOf(event: ReadEvent): string {
  const { topic, partition, offset, writtenAt, type, key, id, sequence, data, problem, bytes, text, copyOf } = event
  const copy = copyOf ? ` copy of ${shown(copyOf.place)}` : ''
  const head = [
    writtenAt ? clock(writtenAt) : '',
    strong(typeInWords(type)),
    keyInWords(key),
    faint(`#${sequence ?? '?'} by ${writerOf(event)} ${topic}/${partition}@${offset}${copy} id ${shown(id ?? '?')}`),
  ]
  const hex = bytes && `${bytes.subarray(0, shownBytes).toString('hex')}${bytes.length > shownBytes ? '...' : ''}`
  return `${head.join(' ')}\n  ${problem ? `${[problem, ...(text === undefined ? [] : [text])].map((line) => shown(line)).join('\n  ')}${hex ? `\n  bytes ${hex}` : ''}` : toJson(data)}`
}
