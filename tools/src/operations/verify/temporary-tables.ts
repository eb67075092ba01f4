import { createHash } from 'node:crypto'
import { openSession, type Session } from '@shopstream/database'
import { DecodeError, decode } from '@shopstream/events'
import {
  compactedTopics,
  eventIdOf,
  type IncomingMessage,
  placeOf,
  typeOf,
  unreadableIdOf,
} from '@shopstream/messaging/operations'
import { bridgeService } from '../bridges.ts'
import type { Owner, Reach } from '../shop-access.ts'
import { aggregates, type Claim, linesDigest, replicas, wiring } from './aggregates.ts'
import { type AskedBridges, bridgeTables, noteHeld } from './bridges.ts'
import { findGaps, type Gap, type Gaps } from './gaps.ts'
import type { IsListed } from './producers.ts'
import { snapshotOrder } from './snapshot-order.ts'
import { collectStrays, type Strays } from './strays.ts'
import { copyOrders } from './temporary-orders.ts'
import { sequenceOf, sourceOf } from './writers.ts'

/** A part of the shop that is needed cannot be asked; nothing is known of what it holds. */
export class CannotVerify extends Error {}

/** Topics, by database, whose events are compared with it; and whether orders are compared in another database. */
export interface Needs {
  topics: ReadonlyMap<Owner, readonly string[]>
  orders: boolean
  /** What brokers of bridges hold is compared. */
  held: boolean
}

/** Temporary tables in every database that is needed, in which the checks find what the other parts of the shop hold. */
export interface Ground {
  sessions: ReadonlyMap<Owner, Session>
  /** Brings the tables up to date: offsets first, then databases, then topics, on which the checks rely. */
  refresh(needs: Needs): Promise<void>
  /** Events read so far. */
  readonly events: number
  /** What has been read so far that is none. */
  strays(): Strays[]
  close(): Promise<void>
}

/**
 * Its own connection, so that temporary tables stay; no transaction lasts longer than a statement, so that vacuum and the
 * relay are not hindered. Memory is bounded on the server as well: what does not fit goes to temporary files.
 */
const sessionSettings = {
  statement_timeout: 1_200_000,
  lock_timeout: 5_000,
  temp_buffers: '32MB',
  work_mem: '48MB',
  jit: 'off',
  synchronous_commit: 'off',
}
const queryTimeoutMs = 1_230_000

export const tables = `
  -- one row per message of a topic; the bridge that brought it in, when it was written in ms since 1970, and whether a producer that is listed may write it
  create temp table fact (topic text, partition integer, "offset" bigint, event_id uuid, unreadable_id uuid, key text, sequence bigint,
    type text, bytes uuid, says uuid, source text, origin text, written bigint, listed boolean);
  -- messages of compacted topics that tell compaction to forget their key
  create temp table tombstone (topic text, partition integer, "offset" bigint, key text, source text, written bigint);
  -- what the database held at its moment: its aggregates and its outbox, of one snapshot
  create temp table aggregate (topic text, key text, sequence bigint, born timestamptz, changed timestamptz, state text, lines uuid);
  create temp table pending (topic text, key text, sequence bigint);
  create temp table moment (at timestamptz);
  -- where the group of this database stood before that moment
  create temp table position (topic text, partition integer, start bigint, done bigint);
  -- since when all messages of a topic are kept, null: none has ever been deleted
  create temp table kept (topic text, compacted boolean, since timestamptz);
  -- what cannot be read of the topics that are compared here, and what an open transaction hides; each is told in one database
  create temp table gap (topic text, partition integer, first bigint, last bigint, open boolean, told boolean, what text);
  -- orders, as the order database held them after the moment of this one
  create temp table order_seen (key text, status text, lines uuid, sequence bigint, changed timestamptz);
  -- and those of the reservations' orders that it had archived by then
  create temp table order_archived (key text)`

/** How far clocks of machines may differ; times only decide about messages next to those that retention has deleted. */
const clockMarginMs = 2 * 3_600_000
/** `min.compaction.lag.ms` of compacted topics: younger messages are all kept. */
const compactionLagMs = 7 * 86_400_000

export interface GroundOptions {
  isListed: IsListed
  bridges: AskedBridges
  progress: (line: string) => void
}

/** Throws {@link CannotVerify} with every part that cannot be reached. */
export async function openGround(reach: Reach, needs: Needs, options: GroundOptions): Promise<Ground> {
  const { progress } = options
  const databases = snapshotOrder(wiring).filter(
    (owner) => needs.topics.has(owner) || (needs.orders && owner === 'order'),
  )
  const sessions = new Map<Owner, Session>()
  const close = async () => {
    await Promise.all([...sessions.values()].map((session) => session.close().catch(() => undefined)))
  }
  const opening = databases.map((owner) =>
    reaching(`the database of ${owner}`, async () => {
      const url = reach.databaseUrls[owner]
      sessions.set(owner, await openSession(url, 'shop-verify', sessionSettings, queryTimeoutMs))
      await sessions.get(owner)?.query(owner === bridgeService ? `${tables};${bridgeTables}` : tables)
    }),
  )
  const broker = reaching(`Kafka at ${reach.brokers}`, async () => {
    if (topicsOf(needs).length > 0) await reach.bus.positions(undefined, topicsOf(needs).slice(0, 1))
  })
  const outcomes = await Promise.allSettled([...opening, broker])
  const away = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.message] : []))
  if (away.length > 0) {
    await close()
    throw new CannotVerify(away.join('\n'))
  }
  const gaps = findGaps(reach)
  const facts = loadFacts(reach, sessions, gaps, options)
  return {
    sessions,
    close,
    get events() {
      return facts.count
    },
    strays: () => facts.strays.found(),
    async refresh(wanted) {
      progress('asking how far each group has come')
      await notePositions(reach, sessions, wanted)
      const ofBridges = wanted.held ? sessions.get(bridgeService) : undefined
      if (ofBridges && options.bridges.asked.length > 0) {
        progress('asking what brokers of bridges hold')
        await reaching(`Kafka at ${reach.brokers}, or the database of ${bridgeService}`, () =>
          noteHeld(ofBridges, reach, options.bridges),
        )
      }
      for (const [owner, session] of inOrder(sessions)) {
        progress(`looking into the database of ${owner}`)
        await reaching(`the database of ${owner}`, () => takeSnapshot(owner, session, wanted.topics.get(owner) ?? []))
      }
      if (wanted.orders) await reaching('the database of order', () => copyOrders(sessions, progress))
      await facts.readOn(wanted)
      await noteGaps(sessions, wanted, await gaps.found(topicsOf(wanted)))
    },
  }
}

const topicsOf = ({ topics }: Needs): string[] => [...new Set([...topics.values()].flat())]

const inOrder = (sessions: ReadonlyMap<Owner, Session>) =>
  snapshotOrder(wiring).flatMap((owner) => {
    const session = sessions.get(owner)
    return session ? [[owner, session] as const] : []
  })

/** Turns whatever goes wrong with a part into a {@link CannotVerify} that names it. */
export async function reaching<T>(part: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof CannotVerify) throw error
    const { message, code } = error as { message?: string; code?: string }
    throw new CannotVerify(`${part}: ${message || code || error}`, { cause: error })
  }
}

async function notePositions(reach: Reach, sessions: ReadonlyMap<Owner, Session>, { topics }: Needs): Promise<void> {
  for (const [owner, ofDatabase] of topics) {
    const session = sessions.get(owner) as Session
    await session.query('truncate position')
    if (ofDatabase.length === 0) continue
    const found = await reaching(`Kafka at ${reach.brokers}`, () => reach.bus.positions(owner, [...ofDatabase]))
    await session.query(
      'insert into position select * from unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])',
      [
        found.map(({ topic }) => topic),
        found.map(({ partition }) => partition),
        found.map(({ start }) => String(start)),
        found.map(({ done }) => String(done)),
      ],
    )
  }
}

/** Aggregates and outbox of one snapshot: what is committed then is in the outbox, or has been acknowledged by Kafka. */
async function takeSnapshot(owner: Owner, session: Session, topics: readonly string[]): Promise<void> {
  const own = aggregates.filter(({ database, topic }) => database === owner && topics.includes(topic))
  await session.query('begin isolation level repeatable read')
  try {
    await session.query('truncate aggregate, pending, moment')
    await session.query('insert into moment values (now())')
    for (const { topic, table, key, sequence, born, changed } of own) {
      const [state, lines] = table === 'reservation' ? ['state', linesDigest] : ['null', 'null::uuid']
      await session.query(
        `insert into aggregate select '${topic}', ${key}, ${sequence}, ${born}, ${changed}, ${state}, ${lines} from ${table}`,
      )
    }
    await session.query(
      `insert into pending select topic, key, (headers->>'ce_sequence')::bigint from outbox where topic = any($1)`,
      [
        topics, // not the copies of dead letters, whose headers are as they came
      ],
    )
  } finally {
    await session.query('commit')
  }
  await session.query('analyze aggregate')
}

/** Reads topics on from where it stood, and writes what it finds to each database that compares with it. */
function loadFacts(
  reach: Reach,
  sessions: ReadonlyMap<Owner, Session>,
  gaps: Gaps,
  { isListed, progress }: GroundOptions,
) {
  const next = new Map<string, { topic: string; partition: number; from: bigint }>()
  /** When the first message was written that a partition still has. */
  const oldest = new Map<string, Date>()
  const strays = collectStrays()
  let count = 0
  return {
    strays,
    get count() {
      return count
    },
    async readOn(needs: Needs): Promise<void> {
      const topics = topicsOf(needs)
      if (topics.length === 0) return
      const before = await reaching(`Kafka at ${reach.brokers}`, () => reach.bus.positions(undefined, topics))
      const partitions = before.map(
        ({ topic, partition }) => next.get(placeOf({ topic, partition })) ?? { topic, partition },
      )
      await reaching(`Kafka at ${reach.brokers}, or a database`, () =>
        reach.bus.read({
          topics,
          partitions,
          toEnd: true,
          async handle(messages) {
            const [first, last] = [messages[0], messages.at(-1)] as [IncomingMessage, IncomingMessage]
            if (!oldest.has(placeOf(first))) oldest.set(placeOf(first), first.timestamp ?? new Date())
            const wanting = [...needs.topics].filter(([, ofDatabase]) => ofDatabase.includes(first.topic))
            const writing = wanting.map(([owner]) =>
              insertFacts(sessions.get(owner) as Session, { owner, isListed }, messages),
            )
            await Promise.all(writing)
            for (const message of messages) strays.meet(message)
            next.set(placeOf(first), { topic: first.topic, partition: first.partition, from: last.offset + 1n })
            count += messages.length
            progress(`${count} messages read`)
          },
          unreadable: gaps.meet,
        }),
      )
      // Asked after reading: what retention has deleted meanwhile counts as deleted.
      const starts = await reaching(`Kafka at ${reach.brokers}`, () => reach.bus.positions(undefined, topics))
      gaps.look(before, starts)
      for (const [owner, ofDatabase] of needs.topics) {
        const session = sessions.get(owner) as Session
        await session.query('truncate kept')
        for (const topic of ofDatabase) {
          const cut = starts.filter((position) => position.topic === topic && position.start > 0n)
          const sinces = cut.map((position) => (oldest.get(placeOf(position)) ?? new Date()).getTime() + clockMarginMs)
          const compacted = compactedTopics.has(topic)
          if (compacted) sinces.push(Date.now() - compactionLagMs + clockMarginMs)
          const since = sinces.length === 0 ? null : new Date(Math.max(...sinces))
          await session.query('insert into kept values ($1, $2, $3)', [topic, compacted, since])
        }
        await session.query('analyze fact')
      }
    },
  }
}

/** Each in every database that is compared with its topic, and told in the first of them. */
async function noteGaps(sessions: ReadonlyMap<Owner, Session>, { topics }: Needs, gaps: readonly Gap[]): Promise<void> {
  const told = new Set<Gap>()
  for (const [owner, ofDatabase] of topics) {
    const session = sessions.get(owner) as Session
    await session.query('truncate gap')
    for (const gap of gaps.filter(({ topic }) => ofDatabase.includes(topic))) {
      await session.query('insert into gap values ($1, $2, $3, $4, $5, $6, $7)', [
        gap.topic,
        gap.partition,
        String(gap.firstOffset),
        String(gap.lastOffset),
        gap.isOpen,
        !told.has(gap),
        gap.what,
      ])
      told.add(gap)
    }
    await session.query('analyze gap')
  }
}

/** What of events is compared with the holdings of each database, by database and event. */
const claims = new Map<string, Claim>(
  [...aggregates, ...replicas].flatMap((holding) =>
    holding.claims.map((claim) => [`${holding.database} ${claim.event}`, claim] as const),
  ),
)

/** Messages of one partition. */
async function insertFacts(
  session: Session,
  { owner, isListed }: { owner: Owner; isListed: IsListed },
  messages: readonly IncomingMessage[],
): Promise<void> {
  const [first] = messages
  if (!first) return
  const { topic, partition } = first
  const facts = messages.filter(({ value }) => value !== null) // compaction may forget a key whose tombstone this is
  const tombstones = compactedTopics.has(topic) ? messages.filter(({ value }) => value === null) : []
  if (tombstones.length > 0)
    await session.query(
      `insert into tombstone
       select $1, $2, message.* from unnest($3::bigint[], $4::text[], $5::text[], $6::bigint[]) as message`,
      [
        topic,
        partition,
        tombstones.map(({ offset }) => String(offset)),
        tombstones.map(({ key }) => key),
        tombstones.map(({ headers }) => sourceOf(headers)),
        tombstones.map(({ timestamp }) => timestamp?.getTime() ?? null),
      ],
    )
  if (facts.length === 0) return
  await session.query(
    `insert into fact
     select $1, $2, "offset", event_id, unreadable_id, key, sequence, type, bytes, md5(said::jsonb::text)::uuid, source, origin, written,
       listed
     from unnest($3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::bigint[], $8::text[], $9::uuid[], $10::text[],
         $11::text[], $12::bigint[], $13::boolean[], $14::text[])
       as message ("offset", event_id, unreadable_id, key, sequence, type, bytes, said, source, written, listed, origin)`,
    [
      topic,
      partition,
      facts.map(({ offset }) => String(offset)),
      facts.map(({ headers }) => eventIdOf(headers) ?? null),
      facts.map((message) => unreadableIdOf(message) ?? null),
      facts.map(({ key }) => key),
      facts.map(({ headers }) => sequenceOf(headers)),
      facts.map(({ headers }) => typeOf(headers)?.replaceAll('\0', '\ufffd') ?? null),
      facts.map(({ value }) =>
        createHash('md5')
          .update(value as Buffer)
          .digest('hex'),
      ),
      facts.map((message) => said(owner, message)),
      facts.map(({ headers }) => sourceOf(headers)),
      facts.map(({ timestamp }) => timestamp?.getTime() ?? null),
      facts.map(isListed),
      facts.map(({ headers }) => headers.ce_origin?.toString().replaceAll('\0', '\ufffd').toWellFormed() ?? null),
    ],
  )
}

/** Stands for what an event says that is none of its type; no row says so. */
const unreadable = JSON.stringify('unreadable')

/** What the event says of what `owner` holds, as JSON; null where nothing is compared, or its schema is not known here. */
function said(owner: Owner, { headers, value }: IncomingMessage): string | null {
  const type = typeOf(headers)
  const claim = claims.get(`${owner} ${type}`)
  if (!claim || value === null) return null
  try {
    const { event, data } = decode(value)
    return event === type ? JSON.stringify(claim.says(data as never)).replaceAll('\\u0000', '\\ufffd') : unreadable // as jsonb takes it
  } catch (error) {
    return error instanceof DecodeError && error.reason === 'unknown-schema' ? null : unreadable
  }
}
