import {
  compactedTopics,
  eventIdOf,
  type IncomingMessage,
  MalformedMessage,
  oddKey,
  readMessage,
  typeOf,
} from '@shopstream/messaging/operations'
import { shop } from '../../terminal/format.ts'
import { shown } from '../../terminal/printing.ts'
import { sequenceOf, type Writing, writingInWords, writingOf } from './writers.ts'

/** Records of a topic that are no events: consumers park or pass them by, and nothing of them is compared. */
export interface Strays {
  topic: string
  records: number
  /** The first of them, and why each is none, as its consumers say it. */
  first: (Writing & { why: string })[]
}

/** How many are told with their place: a topic may be full of them. */
const toldStrays = 5

export function collectStrays() {
  const found = new Map<string, Strays>()
  return {
    meet(message: IncomingMessage): void {
      const why = whyNoEvent(message)
      if (why === undefined) return
      const { topic } = message
      const strays = found.get(topic) ?? { topic, records: 0, first: [] }
      strays.records += 1
      if (strays.first.length < toldStrays) strays.first.push({ ...writingOf(message), why })
      found.set(topic, strays)
    },
    found: (): Strays[] => [...found.values()].sort((one, other) => one.topic.localeCompare(other.topic)),
  }
}

/** Undefined for an event, and for what tells compaction to forget one. */
function whyNoEvent(message: IncomingMessage): string | undefined {
  if (message.problem !== undefined) return message.problem
  if ((message.value === null && compactedTopics.has(message.topic)) || isWhole(message)) return undefined
  try {
    readMessage(message)
  } catch (error) {
    if (error instanceof MalformedMessage) return error.message
  }
  return undefined // also where its schema is not known here: a newer version may read it
}

/** Has all of an event but the payload, which the checks read: reading it here would double the time per message. */
const isWhole = ({ key, value, headers }: IncomingMessage): boolean =>
  value !== null &&
  key !== null &&
  !key.startsWith(oddKey) &&
  eventIdOf(headers) !== undefined &&
  typeOf(headers) !== undefined &&
  sequenceOf(headers) !== null &&
  !Number.isNaN(Date.parse(headers.ce_time?.toString() ?? ''))

export function strayLines({ topic, records, first }: Strays): string[] {
  const rest = records - first.length
  return [
    `Note: ${topic} has ${records.toLocaleString('en')} ${records === 1 ? 'record that is no event' : 'records that are no events'}; consumers park them or pass them by:`,
    ...first.map(({ why, ...writing }) => `  ${writingInWords(writing)}: ${shown(why)}`),
    ...(rest > 0 ? [`  and ${rest.toLocaleString('en')} more`] : []),
    `      ${shop(`dead-letters list --topic ${topic} --state all`)}`,
  ]
}
