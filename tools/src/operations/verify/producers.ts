import { readFile } from 'node:fs/promises'
import { topics } from '@shopstream/events'
import { type IncomingMessage, typeOf } from '@shopstream/messaging/operations'
import { Refusal } from '../../terminal/options.ts'
import { reasonOf } from '../answers.ts'

/** Who may write events beside the services, of keys that these never make; a row of the file that FOREIGN_PRODUCERS names. */
export interface Producer {
  /** What it says in `ce_source`. */
  source: string
  topic: string
  events: string[]
  /** A regular expression that a key of its own fits, as a whole. */
  keys: string
}

/** Whether an event is one that a listed producer may write. */
export type IsListed = (message: Pick<IncomingMessage, 'topic' | 'key' | 'headers'>) => boolean

/** Ours; somebody who claims one of these is found, whatever is listed. */
const ownSources = /^\/shopstream(\/|$)/

/** Reads the file of producers; without one there are none. Throws a {@link Refusal} that says what is wrong with it. */
export async function readProducers(file: string | undefined): Promise<IsListed> {
  if (file === undefined) return () => false
  try {
    const rows: unknown = JSON.parse(await readFile(file, 'utf8'))
    if (!Array.isArray(rows)) throw new Error('it is no list')
    return isListedBy(rows.map(checked))
  } catch (error) {
    throw new Refusal(`the producers of ${file} (FOREIGN_PRODUCERS): ${reasonOf(error)}`)
  }
}

export function isListedBy(producers: readonly Producer[]): IsListed {
  const rows = producers.map((producer) => ({ ...producer, fits: new RegExp(`^(?:${producer.keys})$`) }))
  return ({ topic, key, headers }) => {
    const [source, type] = [headers.ce_source?.toString(), typeOf(headers)]
    return rows.some(
      (row) =>
        row.source === source &&
        row.topic === topic &&
        row.events.includes(type ?? '') &&
        key !== null &&
        row.fits.test(key),
    )
  }
}

function checked(row: Partial<Producer> | null, n: number): Producer {
  const { source, topic: name, events, keys } = row ?? {}
  const problem = (what: string) => new Error(`row ${n + 1}: ${what}`)
  if (typeof source !== 'string' || source === '') throw problem('source is missing')
  if (ownSources.test(source)) throw problem(`${source} is a service of the shop`)
  const topic = topics.find((one) => one.name === name)
  if (!topic) throw problem(`topic is none of ${topics.map((one) => one.name).join(', ')}`)
  if (!Array.isArray(events) || events.length === 0) throw problem('events is no list of names')
  const strange = events.find((event) => !topic.events.some((known) => known === event))
  if (strange !== undefined) throw problem(`${topic.name} has no event ${strange}`)
  if (typeof keys !== 'string' || keys === '') throw problem('keys is missing: what fits no key of the services')
  new RegExp(`^(?:${keys})$`) // throws with what is wrong
  return { source, topic: topic.name, events, keys }
}
