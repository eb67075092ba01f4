import { type Database, sql } from '@shopstream/database'
import { inboundName, unparkedBy } from '@shopstream/messaging/operations'
import { shop } from '../terminal/format.ts'
import { Refusal } from '../terminal/options.ts'
import { shown } from '../terminal/printing.ts'
import { bridgeService } from './bridges.ts'
import { type ReadEvent, wordsOf } from './read-event.ts'

/** What became of a message that came in by a bridge, which its sender knows by an id of their own. */
export interface CameIn {
  /** Of the bridge's row. */
  source: string
  /** The sender's. */
  id: string
  at: Date
  eventId: string
}

/** Letters that are looked at: an id may stand in others too. */
const candidates = 20

/**
 * The event that a message with this id of its sender's became; undefined for an id that nobody has sent. Throws a Refusal that
 * says what there is of a message that became none, and of an id that several have sent.
 */
export async function cameInAs({ query }: Database<unknown>, id: string): Promise<CameIn | undefined> {
  const { rows } = await sql<Omit<CameIn, 'id' | 'eventId'> & { eventId: string | null }>`
    select source, received_at "at", event_id "eventId" from received
    where substr(id, strpos(id, ' ') + 1) = ${id} order by received_at limit ${candidates}`.execute(query)
  const [one, ...more] = rows
  if (!one) return refuseParked({ query }, id)
  const ids = rows.map(
    ({ source, eventId }) =>
      `${shown(source)}: ${eventId ? shop(`explain event ${eventId}`) : 'its event was not noted'}`,
  )
  if (more.length > 0) throw new Refusal(`Messages of several have the id ${shown(id)}.\n${ids.join('\n')}`)
  if (one.eventId === null)
    throw new Refusal(`${shown(id)} came in from ${shown(one.source)}; its event was not noted then.`)
  return { ...one, id, eventId: one.eventId }
}

async function refuseParked({ query }: Pick<Database<unknown>, 'query'>, id: string): Promise<undefined> {
  const written = JSON.stringify(id)
  const { rows } = await sql<{
    ref: bigint
    topic: string
    state: string
    bytes: Buffer
    headers: ReadEvent['headers']
  }>`
    select id ref, topic, state, bytes, headers from parked_message
    where topic like ${`${inboundName}@%`}
      and (position(convert_to(${written}, 'UTF8') in bytes) > 0 or strpos(headers::text, ${written}) > 0)
    order by parked_message.id desc limit ${candidates}`.execute(query)
  const found = rows.find(({ headers, bytes }) => wordsOf({ headers, text: bytes.toString() }).id === id) // not of something in it
  if (!found) return undefined
  const { bridge } = unparkedBy(found.topic)
  throw new Refusal(
    `A message with the id ${shown(id)} came in by bridge ${bridge}, which has parked it (${found.state}): no topic has it.\n` +
      shop(`dead-letters show ${bridgeService}/${found.ref}`),
  )
}
