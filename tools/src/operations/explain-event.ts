import { type Database, sql } from '@shopstream/database'
import { deadLetterTopic, topics } from '@shopstream/events'
import { eventIdOf, type IncomingMessage, inboundName, unparkedBy } from '@shopstream/messaging/operations'
import { clock, faint, plural, shop, table, toJson } from '../terminal/format.ts'
import { Refusal } from '../terminal/options.ts'
import { headerInWords, keyInWords, shopWith, shown, typeInWords } from '../terminal/printing.ts'
import { ask } from './answers.ts'
import { bridgeService } from './bridges.ts'
import { type CameIn, cameInAs } from './came-in.ts'
import { findMails, servicesOf } from './explain-order.ts'
import { readGroups } from './groups.ts'
import { owners, type Reach } from './shop-access.ts'
import { clockSlackMs, type EventStory, type Gap, gapOf, hiddenGaps, type Teller } from './story.ts'
import { eventLines, headline, mailLine, verdictLines } from './story-lines.ts'
import { isUuid, timeOfId } from './uuids.ts'
import { eventsVerdict, gravest, type MailStory, mailVerdict, type Verdict } from './verdict.ts'

export interface StoryOfEvent {
  kind: 'event'
  id: string
  event: EventStory
  /** Dead letters of it that are still to be published. */
  copies: EventStory[]
  /** The mail that it caused, if it did. */
  mails: MailStory[]
  verdict: Verdict
  /** As what it came in by a bridge, where it was asked for by its sender's id. */
  cameIn?: CameIn
}

/** By its id, or by that which its sender gave what came in. Throws a Refusal when no outbox, inbox, parking lot or topic has it. */
export async function tellEvent(teller: Teller, id: string, now = new Date()): Promise<StoryOfEvent> {
  try {
    return await tellOwnEvent(teller, id, now)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    const { answer: cameIn, reason, refusal } = await askCameIn(teller, id)
    if (refusal) throw refusal
    if (reason !== undefined)
      throw new Refusal(
        `${error.message}\nAs what came in by a bridge it cannot be looked for: its database ${reason}.`,
      )
    if (!cameIn) throw error
    return { ...(await tellOwnEvent(teller, cameIn.eventId, now)), cameIn }
  }
}

/** What it says of a message that became no event is no failure to answer. */
async function askCameIn({ databases }: Teller, id: string) {
  let refusal: Refusal | undefined
  const asked = await ask('the bridge database', async () => {
    try {
      return await cameInAs(databases[bridgeService], id)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      refusal = error
      return undefined
    }
  })
  return { ...asked, refusal }
}

async function tellOwnEvent(teller: Teller, id: string, now: Date): Promise<StoryOfEvent> {
  if (!isUuid(id.toLowerCase()))
    throw new Refusal(
      `There is no event ${shown(id)}: those are UUIDs, or what the sender of a message gave it that came in by a bridge.`,
    )
  const { rows } = await teller.unpublished({ eventId: id })
  const unpublished = rows.find(({ copyOf }) => !copyOf)
  const { message, gaps, inbound }: Found = unpublished ? { message: undefined, gaps: [] } : await findEvent(teller, id)
  const event = unpublished ?? (message ? (await teller.handlings([message])).events[0] : rows[0])
  if (!event && inbound)
    throw new Refusal(
      `Event ${id} came in by bridge ${inbound.bridge}, which has parked it (${inbound.state}): no topic has it.\n` +
        shop(`dead-letters show ${bridgeService}/${inbound.id}`),
    )
  if (!event)
    throw new Refusal(
      [`No outbox, inbox, parking lot or topic has an event ${id}.`, ...gaps.map(({ what }) => what)].join('\n'),
    )
  const copies = rows.filter((row) => row !== event)
  const asked = await ask('the notification database', () =>
    findMails(teller.databases.notification, sql`cause_id = ${id}`),
  )
  const mails = asked.answer ?? []
  const services = await servicesOf(teller, [event, ...copies], mails)
  const verdict =
    gravest(
      [
        eventsVerdict([event, ...copies], services, now),
        ...mails.map((mail) => mailVerdict(mail, services, now)),
      ].filter((one) => one !== undefined),
    ) ?? endOf(event)
  return { kind: 'event', id, event, copies, mails, verdict }
}

/** What is left to say of an event that nothing is in the way of. */
function endOf({ copyOf, handledBy, bridges = [] }: EventStory): Verdict {
  if (copyOf)
    return {
      state: 'final',
      text: `Its topic does not have it any more; this is the copy that ${copyOf.group} has made of ${shown(copyOf.place)}, on which it had given up.`,
      run: [shop(`dead-letters list --group ${copyOf.group} --state all`)],
    }
  if (handledBy.length === 0) {
    const who = bridges.length > 0 ? 'No service consumes it, and its bridges are done with it.' : 'Nobody consumes it.'
    return { state: 'final', text: who, run: [] }
  }
  const also = bridges.length > 0 ? ', and its bridges are done with it' : ''
  return { state: 'final', text: `Every group that consumes it has done so${also}.`, run: [] }
}

/**
 * Finds it by its place, if an inbox or parking lot tells it, else in all topics since it was made, then in dead
 * letters.
 */
async function findEvent(teller: Teller, id: string): Promise<Found> {
  const places = await Promise.all(owners.map((owner) => ask(owner, () => findPlace(teller.databases[owner], id))))
  const { place, inbound } = placeOf(places.flatMap(({ answer }) => answer ?? []))
  const made = timeOfId(id)
  // With a foreign clock, or a foreign id, this may be any time.
  const from = made && made < new Date() ? { from: new Date(made.getTime() - clockSlackMs) } : {}
  const fits = (message: IncomingMessage) => eventIdOf(message.headers) === id
  const wheres: Where[] = [
    ...(place ? [{ topics: [place.topic], partitions: [{ ...place, from: place.offset }] }] : []),
    { topics: topics.map(({ name }) => name), ...from },
    { topics: (await readGroups()).map(({ group }) => deadLetterTopic(group).name), ...from },
  ]
  const gaps: Gap[] = []
  for (const where of wheres) {
    const found = await firstThat(teller.bus, where, fits)
    if (found.message) return found
    if (!where.partitions) gaps.push(...found.gaps)
  }
  const hidden = await hiddenGaps(teller.bus, await partitionsOf(teller.bus))
  return { message: undefined, gaps: [...gaps, ...hidden], inbound }
}

const partitionsOf = (bus: Reach['bus']) =>
  bus.positions(
    undefined,
    topics.map(({ name }) => name),
  )

type Where = Pick<Parameters<Reach['bus']['read']>[0], 'topics' | 'partitions' | 'from'>

interface Found {
  message: IncomingMessage | undefined
  /** What could not be read on the way. */
  gaps: Gap[]
  /** By which bridge it came in, which has parked it. */
  inbound?: { bridge: string; id: bigint | null; state: string | null } | undefined
}

/** The first message that fits; undefined when none does. */
async function firstThat(bus: Reach['bus'], where: Where, fits: (message: IncomingMessage) => boolean): Promise<Found> {
  const enough = new AbortController()
  const found: Found = { message: undefined, gaps: [] }
  await bus.read({
    ...where,
    toEnd: true,
    signal: enough.signal,
    handle(messages) {
      found.message ??= messages.find(fits)
      if (found.message || (where.partitions && messages.length > 0)) enough.abort()
    },
    unreadable: (stretch) => void found.gaps.push(gapOf(stretch)),
  })
  return found
}

/** A row of an inbox, or of a parking lot, which has an id. */
export interface PlaceRow {
  id: bigint | null
  state: string | null
  topic: string
  partition: number
  offset: bigint
}

/** Pure: where Kafka has it. What a bridge has parked is of its topic; what came in by one has no place there. */
export function placeOf(rows: readonly PlaceRow[]) {
  const all = rows.map(({ topic: noted, ...row }) => ({ ...row, ...unparkedBy(noted) }))
  const inbound = all.find(({ topic, id }) => topic === inboundName && id !== null)
  const place = all.find(({ topic }) => topic !== inboundName)
  return { place, inbound: inbound?.bridge === undefined ? undefined : { ...inbound, bridge: inbound.bridge } }
}

async function findPlace({ query }: Database<unknown>, id: string) {
  const { rows } = await sql<PlaceRow>`
    select null::bigint id, null state, topic, partition, "offset" from inbox where event_id = ${id}
    union all
    select id, state, topic, partition, coalesce(former_offset, "offset") from parked_message
    where event_id = ${id}`.execute(query)
  return rows
}

export function eventScreen({ id, event, copies, mails, verdict, cameIn }: StoryOfEvent): string {
  const now = new Date()
  const { headers, data, bytes, problem, key } = event
  const byOrder = topics.find(({ name }) => name === event.topic)?.key === 'order id'
  const next = byOrder && key ? shopWith('explain', key) : undefined
  return [
    headline(`Event ${id}`, typeInWords(event.type), verdict),
    ...(cameIn ? [`  came in from ${shown(cameIn.source)} as ${shown(cameIn.id)}, ${clock(cameIn.at, now)}`] : []),
    ...[event, ...copies].flatMap((one) => eventLines(one, now)),
    '',
    ...table(Object.entries(headers).map(([name, value]) => [shown(name), headerInWords(value)])),
    ...table([['key', keyInWords(key)]]),
    problem
      ? `  ${bytes ? `${plural(bytes.length, 'byte')}: ${bytes.subarray(0, 400).toString('hex')}` : 'bytes are not shown'}`
      : `  ${toJson(data)}`,
    ...table(mails.map((mail) => mailLine(mail, now))),
    ...(next ? [faint(`  ${next}`)] : []),
    '',
    ...verdictLines(verdict),
  ].join('\n')
}
