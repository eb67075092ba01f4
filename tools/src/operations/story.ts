import { type Database, sql } from '@shopstream/database'
import {
  compactedTopics,
  fromStored,
  type IncomingMessage,
  inboxWindowDays,
  listUnreadable,
  type PartitionPosition,
  type StoredHeaders,
  type Unreadable,
  type UnreadableRow,
  unreadableIdOf,
} from '@shopstream/messaging/operations'
import { age, plural, shop } from '../terminal/format.ts'
import { type Asked, ask } from './answers.ts'
import { type BridgeHandling, bridgeHandlings } from './bridge-handlings.ts'
import { type Group, readGroups } from './groups.ts'
import { standingOf } from './lag.ts'
import { outboxRows } from './outbox-rows.ts'
import { createReader, type ReadEvent, sourceOf } from './read-event.ts'
import { type Owner, owners, type Reach } from './shop-access.ts'
import { type ServiceState, serviceState } from './shop-state.ts'
import { showCommand, unreadInWords } from './unreadable-stretches.ts'
import { isUuid } from './uuids.ts'

/** What became of a message in a consumer group. */
export interface Handling {
  group: Owner
  /**
   * `lagging`: not read yet. `retried`: it failed and is tried again. `behind`: an earlier message of its key is parked.
   * `stepped-over`: it stands in what the group could not read, and somebody has decided. `skipped`: the group has passed
   * it and recorded nothing. `unrecorded`: it may have been handled, but nobody keeps that (compacted topics, or longer ago
   * than the inbox goes back). `unknown`: the group cannot be asked.
   */
  state:
    | 'handled'
    | 'lagging'
    | 'retried'
    | 'behind'
    | 'dead'
    | 'discarded'
    | 'stepped-over'
    | 'skipped'
    | 'unrecorded'
    | 'unknown'
  /** When it was handled, or parked. */
  at?: Date
  /** Messages before it in the partition that the group has not handled. */
  before?: bigint
  parked?: Parked
  /** The parked message that it waits behind; a dead one waits for a person. */
  behind?: { id: bigint; dead: boolean }
  /** The unreadable stretch before it; or the one that it lies in, if that was stepped over. */
  stretch?: UnreadableRow
  reason?: string
}

/** A row of the parking lot. */
export interface Parked {
  id: bigint
  state: string
  attempts: number
  error: string | null
  parkedAt: Date
  nextAttemptAt: Date | null
  endedAt: Date | null
  /** Whether later messages of its key wait behind it. */
  blocks: boolean
  history: { number: number; at: Date; error: string }[]
  actions: { action: string; actor: string; reason: string | null; at: Date }[]
}

/** An event with what is known of its way; `inOutbox` while it is not published. */
export interface EventStory extends Omit<ReadEvent, 'offset'> {
  offset: bigint | null
  inOutbox?: { owner: Owner; since: Date; before: number; refused: string | null }
  handledBy: Handling[]
  /** What bridges have done with it; absent where it is not published. */
  bridges?: BridgeHandling[]
}

/** Where the messages of a key are, and from when on. */
export interface KeyPlace {
  topic: string
  partition: number
  key: string
  since: Date
  /** Sequence of the key's last event, as its owner's tables say; reading may stop there. */
  last?: bigint | undefined
}

interface ParkedRow {
  id: bigint
  /** Id of its event, from its headers; below it, the inbox's id if it could not be read. */
  event_id: string | null
  unreadableId: string | undefined
  topic: string
  partition: number
  offset: bigint
  key: string | null
  state: string
  attempts: number
  error: string | null
  parked_at: Date
  next_attempt_at: Date | null
  ended_at?: Date | null
  blocks: boolean
}

/** What an asked group knows of some messages. */
interface Knowledge {
  handled: Map<string, Date>
  parked: ParkedRow[]
  history: (Parked['history'][number] & { parkedId: bigint })[]
  actions: (Parked['actions'][number] & { parkedId: bigint })[]
  unreadable: UnreadableRow[]
}

/** A place that could not be read: it may hold events that the story lacks. */
export interface Gap {
  what: string
  run: string
}

/** Clocks of the services may differ by this, in ms. */
export const clockSlackMs = 60_000

/**
 * The published messages of these keys, and the places that could not be read. Ends early once it has the last event of
 * each key, written by the shop itself, and the key's last message that a group has parked.
 */
async function published(
  reach: Reach,
  places: readonly KeyPlace[],
): Promise<{ messages: IncomingMessage[]; gaps: Gap[] }> {
  const together = Map.groupBy(places, ({ since }) => since.getTime())
  const parts = await Promise.all([...together.values()].map((some) => publishedSince(reach, some)))
  const hidden = await hiddenGaps(reach.bus, places)
  return {
    messages: parts.flatMap(({ messages }) => messages),
    gaps: [...parts.flatMap(({ gaps }) => gaps), ...hidden],
  }
}

/** Of places that begin at the same time. */
async function publishedSince(reach: Reach, places: readonly KeyPlace[]) {
  const messages: IncomingMessage[] = []
  const gaps: Gap[] = []
  const open = new Map(places.map((place) => [`${place.topic}/${place.partition}/${place.key}`, place]))
  const parked = await lastParked(reach, places)
  const hasCome = new Set<string>()
  const enough = new AbortController()
  await reach.bus.read({
    topics: [...new Set(places.map(({ topic }) => topic))],
    ...(places[0] && { from: places[0].since }),
    partitions: places.map(({ topic, partition }) => ({ topic, partition })),
    toEnd: true,
    signal: enough.signal,
    handle(batch) {
      for (const message of batch) {
        const name = `${message.topic}/${message.partition}/${message.key}`
        const place = open.get(name)
        if (!place) continue
        messages.push(message)
        const { ce_sequence: sequence, ce_source: source } = message.headers
        const isLast = place.last !== undefined && String(sequence) === String(place.last)
        if (isLast && sourceOf(source?.toString())) hasCome.add(name)
        if (hasCome.has(name) && message.offset >= (parked.get(name) ?? 0n)) open.delete(name)
      }
      if (open.size === 0) enough.abort()
    },
    unreadable: (found) => void gaps.push(gapOf(found)),
  })
  return { messages, gaps }
}

/** By place and key, the offset of the last message that some group holds; a database that is away is told elsewhere. */
async function lastParked({ databases }: Reach, places: readonly KeyPlace[]): Promise<Map<string, bigint>> {
  const asked = await Promise.all(
    owners.map((owner) =>
      ask(owner, () =>
        sql<{ name: string; last: bigint }>`
          select topic || '/' || partition || '/' || key as name, max("offset") as last from parked_message
          where key = any(${places.map(({ key }) => key)}::text[]) and ended_at is null
          group by topic, partition, key`.execute(databases[owner].query),
      ),
    ),
  )
  const rows = asked.flatMap(({ answer }) => answer?.rows ?? [])
  return new Map(rows.toSorted((one, other) => Number(one.last - other.last)).map(({ name, last }) => [name, last]))
}

/** Looks into topics, outboxes, inboxes and parking lots for one story. */
export async function createTeller(reach: Reach, personal: boolean) {
  const { bus, databases, serviceUrls } = reach
  const groups = await readGroups()
  const readEvent = createReader(databases, personal)
  const states = new Map<string, Promise<ServiceState | undefined>>()

  /** The rows of all outboxes that concern a key, with how many are before each. */
  async function unpublished(where: {
    key?: string
    eventId?: string
  }): Promise<{ rows: EventStory[]; reasons: string[] }> {
    const asked = await Promise.all(
      owners.map((owner) => ask(`the ${owner} database`, () => outboxRows(databases[owner], where))),
    )
    const rows = asked.flatMap(({ answer }, n) => (answer ?? []).map((row) => ({ ...row, owner: owners[n] as Owner })))
    const stories = rows.map(async (row): Promise<EventStory> => {
      const { id: _, owner, created_at, refused, before, headers, ...message } = row
      const event = await readEvent({ ...message, offset: -1n, headers: fromStored(headers) })
      return {
        ...event,
        writtenAt: undefined,
        offset: null,
        inOutbox: { owner, since: created_at, before, refused },
        handledBy: [],
      }
    })
    const reasons = asked.flatMap(({ reason }, n) => (reason ? [`the ${owners[n]} database ${reason}`] : []))
    return { rows: await Promise.all(stories), reasons }
  }

  /** What became of messages in each group that consumes their type. */
  async function handlings(messages: readonly IncomingMessage[]): Promise<{ events: EventStory[]; reasons: string[] }> {
    const events = await Promise.all(messages.map(readEvent))
    const consuming = groups.filter((group) => events.some((event) => consumes(group, event)))
    const perGroup = await Promise.all(
      consuming.map(async (group) => {
        const [knowledge, positions] = await Promise.all([
          ask(`the ${group.group} database`, () => knowledgeOf(databases[group.group], events)),
          ask('Kafka', () => bus.positions(group.group, [...new Set(events.map(({ topic }) => topic))])),
        ])
        return { group, knowledge, positions }
      }),
    )
    const reasons = perGroup.flatMap(({ group, knowledge }) =>
      knowledge.reason ? [`the ${group.group} database ${knowledge.reason}`] : [],
    )
    const bridges = await bridgeHandlings(reach, events)
    if (bridges.reason) reasons.push(bridges.reason)
    const told = events.map(
      (event): EventStory => ({
        ...event,
        bridges: bridges.of(event),
        handledBy: perGroup
          .filter(({ group }) => consumes(group, event))
          .map(({ group, knowledge, positions }) => handlingOf(group, event, knowledge, positions)),
      }),
    )
    return { events: told, reasons }
  }

  return {
    databases,
    /** Whether personal data are shown. */
    personal,
    published: (places: readonly KeyPlace[]) => published(reach, places),
    unpublished,
    handlings,
    bus,
    /** What a service says of itself; undefined where nobody has told its address. */
    async service(name: string): Promise<ServiceState | undefined> {
      const url = serviceUrls[name]
      if (!states.has(name)) states.set(name, url ? serviceState(name, url) : Promise.resolve(undefined))
      return states.get(name)
    },
    /** Each look asks the services anew. */
    forget: () => states.clear(),
  }
}

/** A message without a type concerns every group of its topic: no group can know that it may skip it. */
const consumes = ({ topics, types }: Group, { topic, type }: ReadEvent) =>
  topics.includes(topic) && (type === undefined || types.has(type))

export const gapOf = (found: Unreadable): Gap => ({ what: unreadInWords(found), run: showCommand(found) })

/** What nobody can see of these partitions until a transaction has ended. */
export async function hiddenGaps(
  bus: Reach['bus'],
  places: readonly { topic: string; partition: number }[],
): Promise<Gap[]> {
  const topics = [...new Set(places.map(({ topic }) => topic))]
  const hidden = (await standingOf(bus, undefined, topics)).filter(
    (one) =>
      one.hidden > 0n && places.some(({ topic, partition }) => topic === one.topic && partition === one.partition),
  )
  return hidden.map(({ topic, partition, hidden: count, hiddenSeconds }) => ({
    what: `${plural(count, 'message')} of ${topic}/${partition} cannot be seen behind a transaction that has been open for ${age(hiddenSeconds)}`,
    run: shop('lag --all'),
  }))
}

export type Teller = Awaited<ReturnType<typeof createTeller>>

/** Pure: what a group has done with an event, by what it knows and where it stands. */
function handlingOf(
  { group }: Pick<Group, 'group'>,
  event: ReadEvent,
  { answer: knows, reason }: Asked<Knowledge>,
  { answer: positions }: Asked<PartitionPosition[]>,
): Handling {
  if (!knows) return { group, state: 'unknown', reason: reason ?? '' }
  const row =
    knows.parked.find(
      ({ topic, partition, offset }) =>
        topic === event.topic && partition === event.partition && offset === event.offset,
    ) ?? knows.parked.find(({ unreadableId }) => unreadableId !== undefined && unreadableId === event.unreadableId)
  if (row) return parkedHandling(group, row, knows)
  const at = knows.handled.get(event.id ?? '') ?? knows.handled.get(event.unreadableId ?? '')
  if (at) return { group, state: 'handled', at }
  const position = positions?.find(({ topic, partition }) => topic === event.topic && partition === event.partition)
  if (!position) return { group, state: 'unknown', reason: 'Kafka cannot be asked where the group stands' }
  const inPartition = knows.unreadable.filter(
    ({ topic, partition, firstOffset }) =>
      topic === event.topic && partition === event.partition && firstOffset <= event.offset,
  )
  if (position.done <= event.offset) {
    const stretch = inPartition.find((one) => !one.steppedOverAt && one.lastOffset >= position.done)
    return { group, state: 'lagging', before: event.offset - position.done, ...(stretch && { stretch }) }
  }
  const steppedOver = inPartition.find((one) => one.steppedOverAt && one.lastOffset >= event.offset)
  if (steppedOver) return { group, state: 'stepped-over', at: steppedOver.steppedOverAt as Date, stretch: steppedOver }
  const isOld = (event.writtenAt?.getTime() ?? 0) < Date.now() - inboxWindowDays * 86_400_000
  return { group, state: compactedTopics.has(event.topic) || isOld ? 'unrecorded' : 'skipped' }
}

function parkedHandling(group: Owner, row: ParkedRow, { parked, history, actions }: Knowledge): Handling {
  const about: Parked = {
    id: row.id,
    state: row.state,
    attempts: row.attempts,
    error: row.error,
    parkedAt: row.parked_at,
    nextAttemptAt: row.next_attempt_at,
    endedAt: row.ended_at ?? null,
    blocks: row.blocks,
    history: history.filter(({ parkedId }) => parkedId === row.id),
    actions: actions.filter(({ parkedId }) => parkedId === row.id),
  }
  if (row.state === 'handled' || row.state === 'discarded')
    return { group, state: row.state, ...(row.ended_at && { at: row.ended_at }), parked: about }
  if (row.state === 'dead') return { group, state: 'dead', at: row.parked_at, parked: about }
  const head = parked.find(
    ({ topic, key, blocks, id }) => blocks && topic === row.topic && key === row.key && id < row.id,
  )
  if (head)
    return {
      group,
      state: 'behind',
      at: row.parked_at,
      parked: about,
      behind: { id: head.id, dead: head.state === 'dead' },
    }
  return { group, state: 'retried', at: row.parked_at, parked: about }
}

async function knowledgeOf({ query }: Database<unknown>, events: readonly ReadEvent[]): Promise<Knowledge> {
  const ids = events.flatMap(({ id, unreadableId }) => (id && isUuid(id) ? [id, unreadableId] : []))
  const inbox = await sql<{ event_id: string; received_at: Date }>`
    select event_id, received_at from inbox where event_id = any(${ids}::uuid[])`.execute(query)
  const parked = await sql<Omit<ParkedRow, 'unreadableId'> & { bytes: Buffer | null; headers: StoredHeaders }>`
    select * from parked_message
    where topic = any(${events.map(({ topic }) => topic)}::text[])
      and (key = any(${events.flatMap(({ key }) => (key === null ? [] : [key]))}::text[]) or event_id = any(${ids}::uuid[]))
    order by id`.execute(query)
  const parkedIds = parked.rows.map(({ id }) => id)
  const history = await sql<Knowledge['history'][number]>`
    select parked_id "parkedId", number, at, error from parked_attempt
    where parked_id = any(${parkedIds}::bigint[]) order by parked_id, number`.execute(query)
  const actions = await sql<Knowledge['actions'][number]>`
    select parked_id "parkedId", action, actor, reason, at from parked_action
    where parked_id = any(${parkedIds}::bigint[]) order by id`.execute(query)
  return {
    handled: new Map(inbox.rows.map((row) => [row.event_id, row.received_at])),
    parked: parked.rows.map((row) => ({
      ...row,
      unreadableId: unreadableIdOf({ key: row.key, value: row.bytes, headers: fromStored(row.headers) }),
    })),
    history: history.rows,
    actions: actions.rows,
    unreadable: await listUnreadable(query),
  }
}
