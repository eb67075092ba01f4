import { randomUUID } from 'node:crypto'
import { namedBy, remembered, type Sendable } from '../target.ts'
import type { Script } from './connection.ts'
import { type OutletOptions, usualLength, usualStream } from './options.ts'
import { addToList, addToStream } from './scripts.ts'

/** What is added for an event: the texts of fields, or one of a list. */
export type Entry = (string | Buffer)[]

/** How a key holds events, and how they are added to it. */
export interface Store {
  keyOf(message: Pick<Sendable, 'topic' | 'type'>): string
  entryOf(message: Sendable): Entry
  script: Script
  argumentsOf(entries: readonly Entry[]): (string | Buffer)[]
  /** Why a key takes no more. */
  full(key: string, behind: string): string
}

export function storeOf(options: OutletOptions): Store {
  return options.queue === undefined ? streams(options) : list(options, options.queue)
}

function streams({ stream = usualStream, groups = [], maxLength = usualLength }: OutletOptions): Store {
  const keyOf = remembered((of) => namedBy(stream, of))
  return {
    keyOf,
    entryOf,
    script: addToStream,
    argumentsOf(entries) {
      const args: Entry = [String(maxLength), String(groups.length), String(entries.length), ...groups]
      for (const entry of entries) args.push(String(entry.length), ...entry)
      return args
    },
    full: (key, behind) =>
      `stream ${key} is full: group ${behind} has not acknowledged what its ${maxLength} entries are kept for`,
  }
}

/** Each entry has `id`: readers know a repeated event by it. */
function entryOf(message: Sendable): Entry {
  const { id, contentType, attributes } = message
  const body = message.text ?? message.body
  if (!attributes) return ['id', id, 'cloudevent', body]
  const fields = { ...attributes, id, datacontenttype: contentType }
  return [...Object.entries(fields).flat(), 'data', body]
}

/** Kombu's priorities: each has a list of its own, and 0 is the first that is asked. */
const steps = [9, 6, 3, 0]

/** The list of a queue of Celery's, as Kombu keeps it in Redis. */
function list({ priority = 0, maxLength = usualLength }: OutletOptions, queue: string): Store {
  const step = steps.find((one) => one <= priority) ?? 0
  const key = step === 0 ? queue : `${queue}\x06\x16${step}`
  return {
    keyOf: () => key,
    entryOf: (message) => [envelopeOf(message, queue, priority)],
    script: addToList,
    argumentsOf: (entries) => [String(maxLength), ...entries.flat()],
    full: () => `queue ${queue} is full: workers have not taken its ${maxLength} tasks`,
  }
}

/** As kombu/transport/virtual/base.py writes a message to the unnamed exchange. */
function envelopeOf({ id, contentType, body, task }: Sendable, queue: string, priority: number): string {
  return JSON.stringify({
    body: body.toString('base64'),
    'content-encoding': 'utf-8',
    'content-type': contentType,
    headers: task,
    properties: {
      correlation_id: id,
      delivery_mode: 2,
      delivery_info: { exchange: '', routing_key: queue },
      priority,
      body_encoding: 'base64',
      delivery_tag: randomUUID(),
    },
  })
}
