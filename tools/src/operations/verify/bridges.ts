import { ConfigError } from '@shopstream/config'
import type { Session } from '@shopstream/database'
import { shop } from '../../terminal/format.ts'
import { shown } from '../../terminal/printing.ts'
import { ask, reasonOf } from '../answers.ts'
import { bridgeService, groupOfBridge, readBridgeNotes } from '../bridges.ts'
import { readBridgeTable } from '../services.ts'
import type { Reach } from '../shop-access.ts'
import { isUuid } from '../uuids.ts'
import { type Check, named, placed, show } from './check.ts'

/** Whether what bridges have passed is with their brokers, of those brokers that can be asked. */

/** A bridge whose broker says what it holds. */
export interface AskedBridge {
  name: string
  group: string
  topics: string[]
  events: readonly string[]
  /** The bridges that bring in what comes from the same broker: it is not sent back. */
  origins: readonly string[]
  held(): AsyncIterable<string>
  close(): Promise<void>
}

export interface AskedBridges {
  asked: AskedBridge[]
  /** Of the others, why nothing is proven of them, in words. */
  unasked: string[]
  /** Those whose broker could be asked, and did not answer; in words. */
  away: string[]
  close(): Promise<void>
}

const none = { asked: [], unasked: [], away: [], close: async () => {} }

/** The bridges of the shop that send. Of one whose broker, table or URL this process does not have it is said, and no more. */
export async function openBridges(reach: Reach): Promise<AskedBridges> {
  const notes = await ask('the bridge database', () => readBridgeNotes(reach.databases[bridgeService]))
  if (notes.reason !== undefined)
    return { ...none, away: [`the bridge database, which names the bridges, ${shown(notes.reason)}`] }
  const sending = notes.answer.filter(({ direction }) => direction === 'send')
  if (sending.length === 0) return none
  const table = await knownBridges(reach)
  const asked: AskedBridge[] = []
  const unasked: string[] = []
  for (const note of sending) {
    const known = table.bridges.find(({ name }) => name === note.name)
    const group = groupOfBridge(note)
    if (!known?.target.out || !group) {
      unasked.push(`bridge ${note.name}: its row is not known here: ${shown(table.why)}`)
      continue
    }
    const { kind, options, url } = known
    const outlet = await known.target.out.open({ bridge: note.name, options, url, logger: reach.logger })
    const held = outlet.held?.bind(outlet)
    if (!held) {
      await outlet.close()
      unasked.push(`bridge ${note.name}: its broker (${kind}) cannot be asked what it has handed out`)
      continue
    }
    const same = table.bridges.filter((one) => one.direction === 'receive' && one.url === url)
    const origins = same.map(({ name }) => name)
    asked.push({ name: note.name, ...group, events: note.events, origins, held, close: () => outlet.close() })
  }
  const close = async () => void (await Promise.all(asked.map((bridge) => bridge.close())))
  return { asked, unasked, away: [], close }
}

/** By the environment; without any, with the words for it, where that does not say it all. */
async function knownBridges({ bridgeEnvironment = {} }: Reach) {
  try {
    return {
      bridges: await readBridgeTable(bridgeEnvironment),
      why: 'BRIDGES_FILE has to name the file where it stands',
    }
  } catch (error) {
    if (error instanceof ConfigError) return { bridges: [], why: error.problems.join('; ') }
    throw error
  }
}

/** Temporary tables of the session in the bridge database. */
export const bridgeTables = `
  create temp table bridge_asked (bridge text, events text[], origins text[]);
  -- where the group of a bridge stood before its broker was asked
  create temp table bridge_position (bridge text, topic text, partition integer, done bigint);
  -- what its broker holds, each event's first place among all; of one stream the oldest first
  create temp table bridge_held (bridge text, event_id uuid, place bigint)`

const idsAtOnce = 5_000

/** Asks where groups stand, then what the brokers hold. Of one that is away nothing is compared. */
export async function noteHeld(
  session: Session,
  { bus }: Pick<Reach, 'bus'>,
  { asked, unasked, away }: Omit<AskedBridges, 'close'>,
): Promise<void> {
  await session.query('truncate bridge_asked, bridge_position, bridge_held')
  const tell = (list: string[], words: string) => void (list.includes(words) || list.push(words))
  const isAway = (name: string, reason: string) => tell(away, `the broker of bridge ${name}: ${reason}`)
  const silences = await Promise.all(asked.map(silenceOf))
  for (const [n, { name, group, topics, events, origins, held }] of asked.entries()) {
    const silence = silences[n]
    if (silence !== undefined) {
      isAway(name, silence)
      continue
    }
    const positions = await bus.positions(group, topics)
    try {
      const count = await copyHeld(session, name, held())
      if (count === 0 && positions.some(({ start, done }) => done > start))
        tell(unasked, `bridge ${name}: its broker holds no event, so that there is nothing to compare`)
    } catch (error) {
      isAway(name, shown(reasonOf(error)))
      continue
    }
    await session.query(
      `insert into bridge_position select $1, * from unnest($2::text[], $3::integer[], $4::bigint[])`,
      [
        name,
        positions.map(({ topic }) => topic),
        positions.map(({ partition }) => partition),
        positions.map(({ done }) => String(done)),
      ],
    )
    await session.query('insert into bridge_asked values ($1, $2, $3)', [name, events, origins])
  }
  await session.query('analyze bridge_held')
}

/** Why its broker does not answer, if so. One that hangs takes its time limit for that, all of them together one. */
async function silenceOf({ held }: AskedBridge): Promise<string | undefined> {
  try {
    for await (const _ of held()) break
  } catch (error) {
    return shown(reasonOf(error))
  }
  return undefined
}

/** Returns how many it holds. */
async function copyHeld(session: Session, bridge: string, held: AsyncIterable<string>): Promise<number> {
  let place = 0
  let ids: string[] = []
  const write = async () => {
    await session.query(
      `insert into bridge_held
       select $1, id, $2::bigint + number from unnest($3::uuid[]) with ordinality as held (id, number)`,
      [bridge, place, ids],
    )
    place += ids.length
    ids = []
  }
  for await (const id of held) {
    if (isUuid(id.toLowerCase())) ids.push(id) // others may write to it as well
    if (ids.length === idsAtOnce) await write()
  }
  if (ids.length > 0) await write()
  return place
}

/** How much older an event may be than another that its broker got before it, where some are not held any more. */
const disorderMs = 600_000

/** SQL: when an event was made, in ms since 1970, as its id says (UUID version 7); else when it was written. */
const madeMs = (id: string, written: string) => `case when substr(${id}::text, 15, 1) = '7'
    then ('x' || substr(replace(${id}::text, '-', ''), 1, 12))::bit(48)::bigint else ${written} end`

/** SQL: the row of the parking lot, if the bridge has parked an event. */
const parkedOf = (event: string) => `select from parked_message as m
    where m.topic = ${event}.topic || '@' || ${event}.bridge and m.partition = ${event}.partition
      and coalesce(m.former_offset, m."offset") = ${event}."offset"`

/**
 * What is passed, and from when on a broker has to hold it. A stream may be of some types, and forget its oldest on its own:
 * of each type all is judged where its first event is held, else what is younger than the first that is.
 */
const passedSql = `
    passed as (
      select b.bridge, f.topic, f.partition, f."offset", f.key, f.sequence, f.type, f.event_id,
        ${madeMs('f.event_id', 'f.written')} as made,
        exists (select from bridge_held as h where h.bridge = b.bridge and h.event_id = f.event_id) as held
      from bridge_asked as b join bridge_position as p using (bridge)
        join fact as f on f.topic = p.topic and f.partition = p.partition and f."offset" < p.done
      where f.type = any(b.events) and f.event_id is not null and not coalesce(f.origin = any(b.origins), false)),
    ordinary as (select * from passed as e where not exists (${parkedOf('e')})),
    first as (select bridge, type, min(made) as made from ordinary group by bridge, type),
    edge as (
      select distinct on (o.bridge, o.type) o.bridge, o.type, o.made as first_held, first.made = o.made as whole
      from ordinary as o join first using (bridge, type) join bridge_held as h using (bridge, event_id)
      order by o.bridge, o.type, h.place),
    bound as (
      select bridge, type, case when whole then first_held else first_held + ${disorderMs} end as since from edge
      union all
      select rest.bridge, rest.type, (select min(e.first_held) from edge as e where e.bridge = rest.bridge)
      from (select distinct bridge, type from passed except select bridge, type from edge) as rest
      where not exists (select from edge as e where e.bridge = rest.bridge and not e.whole))`

/** The check, for the bridges that can be asked. */
export const undeliveredEvent = (asked: readonly AskedBridge[] = []): Check => ({
  name: 'undelivered-event',
  promise: 'each event that a bridge has passed is at its broker, or parked, where the broker can be asked',
  at: asked.length === 0 ? {} : { [bridgeService]: [...new Set(asked.flatMap(({ topics }) => topics))] },
  needsHeld: true,
  looked: () => `with ${passedSql} select count(*) from passed`,
  sql: () => `
    with ${passedSql}
    select e.bridge || ' ' || e.topic || ' ' || e.partition || ' ' || e."offset" as subject, e.bridge, e.topic, e.partition,
      e."offset", e.key, e.type, e.event_id
    from passed as e join bound using (bridge, type)
    where e.made >= bound.since and not e.held
      and not exists (${parkedOf('e')} and m.state <> 'handled')
      and not exists (
        select from unreadable_batch as u
        where u.topic = e.topic and u.partition = e.partition and u.stepped_over_at is not null
          and e."offset" between u.first_offset and u.last_offset)`,
  about: (found) => [placed(found)],
  message: ({ bridge, topic, partition, offset, type, key }) =>
    `bridge ${bridge} has passed ${named(type)} of ${named(key)} at offset ${offset} of ${topic}, partition ${partition}; its broker does not hold it, and it is not parked`,
  commands: ({ topic, key, event_id }) => [shop(`explain event ${event_id}`), ...show(topic, key)],
})
