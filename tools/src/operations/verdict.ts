import { age, clock, firstLine, plural, secondsSince, shop } from '../terminal/format.ts'
import { shown, typeInWords } from '../terminal/printing.ts'
import type { BridgeHandling } from './bridge-handlings.ts'
import { bridgeService } from './bridges.ts'
import type { ServiceState } from './shop-state.ts'
import type { EventStory, Gap, Handling } from './story.ts'
import { decisionInWords, showCommand, unreadInWords } from './unreadable-stretches.ts'

/** What a story comes to, and what to run. */
export interface Verdict {
  /**
   * `final`: nothing more will happen. `waiting`: all is in order, it is somebody's turn. `working`: in flight, it goes on
   * by itself. `stuck`: a person is needed.
   */
  state: 'final' | 'waiting' | 'working' | 'stuck'
  text: string
  run: string[]
}

/** What is in flight for longer than this is stuck, in seconds. */
const inFlightSeconds = 60

export const nameOf = ({ type, sequence }: Pick<EventStory, 'type' | 'sequence'>) =>
  `${typeInWords(type)} #${sequence ?? '?'}`

/** Who says that it has decided an event. Anybody may write into our topics, under any name. */
export const writerOf = ({ source, foreignSource }: Pick<EventStory, 'source' | 'foreignSource'>): string =>
  source ??
  (foreignSource === undefined
    ? 'nobody that it names'
    : `${shown(foreignSource) || 'an empty name'} (no service of the shop)`)

/** Services by name, as far as they were asked. */
export type Services = ReadonlyMap<string, ServiceState | undefined>

/** Why a service may not do its work, in words; empty when it says that it is ready. */
function troubleOf(service: string, services: Services): string {
  const state = services.get(service)
  if (!state || state.state === 'ready') return ''
  return `the ${service} service is ${state.state} (${state.reasons.join('; ')})`
}

const restart = (service: string) =>
  `start the ${service} service: npm start, or as it was deployed; its log says why it ended`

/** What keeps an event from being published; undefined when it is. */
export function unpublishedVerdict(event: EventStory, services: Services, now: Date): Verdict | undefined {
  const { inOutbox, copyOf } = event
  if (!inOutbox) return undefined
  const { owner } = inOutbox
  const since = clock(inOutbox.since, now)
  const what = copyOf
    ? `The dead-letter copy that ${copyOf.group} made of ${nameOf(event)} at ${since}`
    : `${nameOf(event)} was decided at ${since} and`
  if (inOutbox.refused)
    return {
      state: 'stuck',
      text: `${what} is refused by the broker for good: ${inOutbox.refused}. Later events of its key wait behind it.`,
      run: [
        `mend why the broker refuses it, then let the relay try again: update outbox set refused = null (database ${owner})`,
      ],
    }
  const trouble = troubleOf(owner, services)
  const stuck = trouble !== '' || secondsSince(inOutbox.since, now) > inFlightSeconds
  const before = inOutbox.before > 0 ? `, behind ${plural(inOutbox.before, 'other event')}` : ''
  return {
    state: stuck ? 'stuck' : 'working',
    text: `${what} waits in the outbox of ${owner} to be published${before}.${trouble && ` ${sentence(trouble)}`}`,
    run: stuck ? [trouble.includes('away') ? restart(owner) : 'see that Kafka runs', shop('status')] : [],
  }
}

/** What keeps a group from having handled an event; undefined when nothing does. */
function handlingVerdict(event: EventStory, handling: Handling, services: Services, now: Date): Verdict | undefined {
  const { group, state, parked, before = 0n, stretch } = handling
  const what = `${nameOf(event)} was written at ${event.writtenAt ? clock(event.writtenAt, now) : '?'}`
  const show = (id: bigint | undefined) => shop(`dead-letters show ${group}/${id}`)
  switch (state) {
    case 'lagging': {
      if (stretch)
        return {
          state: 'stuck',
          text: `${what}, ${group} has not handled it: its partition stands still, as ${unreadInWords(stretch)}.`,
          run: [showCommand(stretch), 'docs/runbooks/unreadable-records.md'],
        }
      const trouble = troubleOf(group, services)
      const stuck =
        trouble !== '' || (event.writtenAt !== undefined && secondsSince(event.writtenAt, now) > inFlightSeconds)
      const ahead =
        before > 0n ? `${plural(before, 'message')} before it in the partition` : 'it is the next in its partition'
      return {
        state: stuck ? 'stuck' : 'working',
        text: `${what}, ${group} has not handled it: ${ahead}.${trouble && ` ${sentence(trouble)}`}`,
        run: stuck ? [trouble.includes('away') ? restart(group) : shop(`lag --group ${group}`), shop('status')] : [],
      }
    }
    case 'retried':
      return {
        state: 'working',
        text:
          `${what}, ${group} failed to handle it ${plural(parked?.attempts ?? 0, 'time')} and parked it at ${parked && clock(parked.parkedAt, now)}: ` +
          `${oneLine(parked?.error)}. It is tried again${parked?.nextAttemptAt ? ` at ${clock(parked.nextAttemptAt, now)}` : ''}.`,
        run: [show(parked?.id)],
      }
    case 'dead':
      return {
        state: 'stuck',
        text:
          `${what}, it is dead in ${group} since ${plural(parked?.attempts ?? 0, 'attempt')} failed, parked at ${parked && clock(parked.parkedAt, now)}: ` +
          `${oneLine(parked?.error)}. ${parked?.blocks ? 'Later messages of its key wait behind it.' : 'Nothing waits behind it.'}`,
        run: [
          show(parked?.id),
          shop(`dead-letters redrive ${group}/${parked?.id}`),
          shop(`dead-letters discard ${group}/${parked?.id} --reason '...'`), // what can never be read
        ],
      }
    case 'behind':
      return {
        state: handling.behind?.dead ? 'stuck' : 'working',
        text: `${what}, it waits in ${group} behind ${handling.behind?.dead ? 'dead' : 'parked'} message ${handling.behind?.id} of the same key.`,
        run: [
          show(handling.behind?.id),
          ...(handling.behind?.dead ? [shop(`dead-letters redrive ${group}/${handling.behind.id}`)] : []),
        ],
      }
    case 'stepped-over':
      return {
        state: 'stuck',
        text: `${what}, ${group} has not handled it: ${stretch ? `${unreadInWords(stretch)}; ${decisionInWords(stretch, now)}` : ''}.`,
        run: stretch ? [showCommand(stretch), 'docs/runbooks/unreadable-records.md'] : [],
      }
    case 'skipped':
      return {
        state: 'stuck',
        text: `${what}, ${group} has passed it and recorded nothing: neither in its inbox nor parked.`,
        run: [shop('verify'), shop(`rewind ${group} --to ${event.writtenAt?.toISOString()}`)],
      }
    default:
      return undefined
  }
}

/** What keeps a bridge from having passed an event; undefined when nothing does. */
function bridgeVerdict(event: EventStory, handling: BridgeHandling, now: Date): Verdict | undefined {
  const { bridge, kind, state, id, error, awaySince, reason, before = 0n } = handling
  const what = `${nameOf(event)} was written at ${event.writtenAt ? clock(event.writtenAt, now) : '?'}, bridge ${bridge} (${kind})`
  const show = shop(`dead-letters show ${bridgeService}/${id}`)
  switch (state) {
    case 'lagging': {
      const late = event.writtenAt !== undefined && secondsSince(event.writtenAt, now) > inFlightSeconds
      const ahead = before > 0n ? `${plural(before, 'message')} before it` : 'it is the next'
      const away = awaySince ? ` Its broker takes nothing since ${clock(awaySince, now)}.` : ''
      return {
        state: late ? 'stuck' : 'working',
        text: `${what} has not passed it: ${ahead}.${away}`,
        run: late ? [shop('status')] : [],
      }
    }
    case 'waiting':
      return { state: 'working', text: `${what} has parked it, and tries it again: ${oneLine(error)}.`, run: [show] }
    case 'gone':
      return {
        state: 'stuck',
        text: `${what}, which no process has any more, has parked it: put its row back, or discard it.`,
        run: [show, shop(`dead-letters discard ${bridgeService}/${id} --reason '...'`)],
      }
    case 'dead':
      return {
        state: 'stuck',
        text: `${what} has given up on it: ${oneLine(error)}.`,
        run: [
          show,
          shop(`dead-letters redrive ${bridgeService}/${id}`),
          shop(`dead-letters discard ${bridgeService}/${id} --reason '...'`),
        ],
      }
    case 'unknown':
      return { state: 'stuck', text: `${what} cannot be asked: ${oneLine(reason)}.`, run: [shop('status')] }
    default:
      return undefined
  }
}

/** The gravest, and of equals the first: what comes first holds up what follows. */
export function gravest(verdicts: readonly Verdict[]): Verdict | undefined {
  const grave: Verdict['state'][] = ['stuck', 'working', 'waiting', 'final']
  return verdicts.toSorted((a, b) => grave.indexOf(a.state) - grave.indexOf(b.state))[0]
}

/** The first thing in the way of these events, in their order; what is in the way of bridges after what keeps the shop. */
export function eventsVerdict(events: readonly EventStory[], services: Services, now: Date): Verdict | undefined {
  const found = [
    ...events.flatMap((event) => [
      unpublishedVerdict(event, services, now),
      ...event.handledBy.map((handling) => handlingVerdict(event, handling, services, now)),
    ]),
    ...events.flatMap((event) => (event.bridges ?? []).map((handling) => bridgeVerdict(event, handling, now))),
  ]
  return gravest(found.filter((verdict) => verdict !== undefined))
}

/** A mail about what is explained. */
export interface MailStory {
  id: string
  kind: string
  state: 'awaiting-recipient' | 'queued' | 'sent' | 'failed' | 'cancelled'
  causeId: string
  userId: string
  attempts: number
  problems: number
  lastError: string | null
  /** When it was made, or staff had it sent again last. */
  askedAt: Date
  sentAt: Date | null
  nextAttemptAt: Date
}

/** As the notification service writes it down. */
const isOutcomeUnknown = ({ lastError }: MailStory) => lastError?.startsWith('outcome unknown') ?? false

/** What keeps a mail from going out; undefined when nothing does. */
export function mailVerdict(mail: MailStory, services: Services, now: Date): Verdict | undefined {
  const what = `The mail "${mail.kind}", asked for at ${clock(mail.askedAt, now)},`
  const error = mail.lastError ? ` The last attempt said: ${oneLine(mail.lastError)}.` : ''
  const trouble = troubleOf('notification', services)
  if (mail.state === 'failed') {
    const end = isOutcomeUnknown(mail) ? 'may have arrived, or not: the SMTP server never said' : 'failed for good'
    const again = `as staff, to send it again: POST /v1/notifications/${mail.id}/resend`
    return { state: 'stuck', text: `${what} ${end}.${error}`, run: [shop(`explain user ${mail.userId}`), again] }
  }
  if (mail.state === 'awaiting-recipient')
    return {
      state: secondsSince(mail.askedAt, now) > inFlightSeconds ? 'stuck' : 'working',
      text: `${what} waits until notification has heard of its recipient.`,
      run: [shop(`explain user ${mail.userId}`)],
    }
  if (mail.state !== 'queued') return undefined
  const stuck = trouble !== '' || secondsSince(mail.askedAt, now) > inFlightSeconds
  return {
    state: stuck ? 'stuck' : 'working',
    text: `${what} waits to be sent, ${plural(mail.attempts, 'attempt')} so far.${error}${trouble && ` ${sentence(trouble)}`} ${isOutcomeUnknown(mail) ? 'It may have arrived, and goes out again a few times' : 'It goes out by itself once the mail server takes it'}.`,
    run: stuck
      ? ['see that the SMTP server runs and takes mails (SMTP_URL of the notification service)', shop('status')]
      : [],
  }
}

/** What of an order decides its verdict. */
export interface OrderFacts {
  id: string
  /** Undefined: the order service knows no such order. */
  order:
    | { status: string; sequence: bigint; reason: string | null; reservationDeadline: Date; createdAt: Date }
    | undefined
  /** Where it is, when it was moved out of the order database. */
  archived: { file: string; batch: bigint; at: Date } | undefined
  events: readonly EventStory[]
  mails: readonly MailStory[]
  /** Events that must have been, and are nowhere. */
  missing: readonly string[]
  /** Events that ask for a mail, and have none although notification has handled them. */
  unmailed: readonly string[]
  services: Services
  /** Parts that could not be asked. */
  notAsked: readonly string[]
  /** Places of its topics that could not be read. */
  gaps: readonly Gap[]
}

/** Statuses after which nothing more happens. */
const over = new Set(['rejected', 'delivered', 'cancelled'])

/** Pure: what an order waits for, and what to run. */
export function orderVerdict(
  { id, order, archived, events, mails, missing, unmailed, services, notAsked, gaps }: OrderFacts,
  now: Date,
): Verdict {
  const inTheWay = gravest([
    ...[eventsVerdict(events, services, now)].filter((verdict) => verdict !== undefined),
    ...mails.map((mail) => mailVerdict(mail, services, now)).filter((verdict) => verdict !== undefined),
  ])
  if (inTheWay?.state === 'stuck') return inTheWay
  if (notAsked.length > 0)
    return { state: 'stuck', text: `Not all parts could be asked: ${notAsked.join('; ')}.`, run: [shop('status')] }
  if (!order && archived)
    return {
      state: 'final',
      text: `It is over, and was archived at ${clock(archived.at, now)}: batch ${archived.batch} of ${archived.file}.`,
      run: [],
    }
  if (!order)
    return {
      state: 'stuck',
      text: `The order service does not know this order, though ${plural(events.length, 'event')} tell of it: was its database restored?`,
      run: ['docs/runbooks/restore-a-database.md', shop('verify')],
    }
  if (missing.length > 0 && gaps.length > 0) return hiddenVerdict(missing, gaps)
  if (missing.length > 0)
    return {
      state: 'stuck',
      text: `${missing.join(', ')} must have been, and is neither in its topic nor in an outbox.`,
      run: [shop('verify')],
    }
  if (unmailed.length > 0)
    return {
      state: 'stuck',
      text: `Notification has handled ${unmailed.join(', ')}, and there is no mail about it.`,
      run: [shop('verify --only missing-mail,unknown-event'), 'docs/runbooks/missing-mail.md'],
    }
  if (inTheWay) return inTheWay
  if (order.status === 'pending') {
    const late = secondsSince(order.reservationDeadline, now)
    if (late > inFlightSeconds)
      return {
        state: 'stuck',
        text: `It is pending ${age(late)} past its deadline: the order service should have cancelled it.`,
        run: [shop('status'), 'see the log of the order service'],
      }
    const decided = events.find(({ source }) => source === 'inventory')
    if (events.length > 0 && !decided && secondsSince(order.createdAt, now) > inFlightSeconds)
      return {
        state: 'stuck',
        text: 'Inventory has handled OrderPlaced, and has said nothing of a reservation.',
        run: [shop('verify'), shop('tail shop.reservation.v1 --from beginning --to-end --key ') + id],
      }
    return {
      state: 'working',
      text: `It is being decided; at ${clock(order.reservationDeadline, now)} it is cancelled.`,
      run: [],
    }
  }
  if (over.has(order.status))
    return {
      state: 'final',
      text: `It is over: ${order.status}${order.reason ? ` (${order.reason})` : ''}. Everybody who had to hear of it has.`,
      run: [],
    }
  const turn =
    order.status === 'confirmed'
      ? 'ship it: POST /v1/orders/ID/shipment'
      : 'say that it arrived: POST /v1/orders/ID/delivery'
  return {
    state: 'waiting',
    text: `Nothing is in its way: it is ${order.status}, and staff have to ${turn.replace('ID', id)}.`,
    run: [],
  }
}

/** Events that are not to be seen, while not all of their topics can be read. */
function hiddenVerdict(missing: readonly string[], gaps: readonly Gap[]): Verdict {
  return {
    state: 'stuck',
    text: `${missing.join(', ')} must have been, and is not in an outbox; in its topic not all can be read: ${gaps.map(({ what }) => what).join('; ')}.`,
    run: [...new Set([...gaps.map(({ run }) => run), shop('status')])],
  }
}

const oneLine = (text: string | null | undefined) => shown(firstLine(text ?? 'no reason was recorded'))
const sentence = (text: string) => `${text[0]?.toUpperCase()}${text.slice(1)}.`
