import { type Database, sql } from '@shopstream/database'
import { type Asked, ask } from './answers.ts'
import { type BridgeNote, bridgeService, groupOfBridge, readBridgeNotes } from './bridges.ts'
import type { Group } from './groups.ts'
import { type Lag, lagOf } from './lag.ts'
import { type Owner, owners, type Reach } from './shop-access.ts'
import { allMet, type Stretch, stretchesOf } from './unreadable-stretches.ts'

/** A part that has something wrong, and the next command to run. */
export interface Problem {
  what: string
  run: string
  /** The page that says what to do about it. */
  runbook: string
}

export interface ServiceState {
  service: string
  state: 'ready' | 'degraded' | 'unavailable' | 'away'
  /** Of each check that fails. */
  reasons: string[]
}

/** Also of a bridge's group. */
export interface GroupState {
  group: string
  messages: bigint
  seconds: number
  /** The partitions that have any. */
  partitions: Lag[]
}

/** `behind` is of those that send: what their group has not handed on. */
export interface BridgeState extends BridgeNote {
  behind?: Asked<GroupState>
}

interface DatabaseState {
  outbox: number
  outboxSeconds: number
  refused: number
  refusedEvent: string | null
  waiting: number
  waitingSeconds: number
  dead: number
  deadSeconds: number
}

interface OrderState {
  pending: number
  overdue: number
  overdueSeconds: number
  oldestOverdue: string | null
}

interface MailState {
  queued: number
  queuedSeconds: number
  /** Of the queued, those of mailings, and how long the first has waited for its turn. */
  bulk: number
  bulkSeconds: number
  awaiting: number
  failed: number
  failedLastDay: number
  failedCause: string | null
  /** Whose mail failed last. */
  failedUser: string | null
  /** What the SMTP server has said to those that are queued or failed on the last day, the most frequent first. */
  reasons: { state: 'queued' | 'failed'; reason: string; mails: number }[]
}

/** What the parts of a shop say of themselves. */
export interface ShopState {
  services: ServiceState[]
  /** Whether it answers at all. */
  kafka: Asked<'answers'>
  /** Stretches of partitions that groups stand before. */
  unreadable: Stretch[]
  groups: ({ group: string } & Asked<GroupState>)[]
  /** None in a deployment without any. */
  bridges: Asked<BridgeState[]>
  databases: ({ service: Owner } & Asked<DatabaseState>)[]
  orders: Asked<OrderState>
  mails: Asked<MailState>
}

export async function stateOf(reach: Reach, groups: Group[]): Promise<ShopState> {
  const { serviceUrls, bus, databases } = reach
  const [services, lags, bridges, perDatabase, orders, mails, { met }] = await Promise.all([
    Promise.all(Object.entries(serviceUrls).map(([service, url]) => serviceState(service, url))),
    Promise.all(
      groups.map(async (group) => ({ group: group.group, ...(await ask('Kafka', () => lagSum(bus, group))) })),
    ),
    bridgesOf(reach),
    Promise.all(
      owners.map(async (service) => ({
        service,
        ...(await ask(`the ${service} database`, () => databaseState(databases[service]))),
      })),
    ),
    ask('the order database', () => orderState(databases.order)),
    ask('the notification database', () => mailState(databases.notification)),
    allMet(reach),
  ])
  return {
    services,
    kafka: await ask('Kafka', async () => whetherItAnswers(bus)),
    unreadable: stretchesOf(met.filter(({ state }) => state === 'stands')),
    groups: lags,
    bridges,
    databases: perDatabase,
    orders,
    mails,
  }
}

/** Asked last: by then it has had its time to answer. */
function whetherItAnswers(bus: Reach['bus']): 'answers' {
  bus.check()
  return 'answers'
}

interface ReadinessAnswer {
  status?: string
  checks?: { name: string; status: string; reason?: string }[]
}

/** What a service says of itself at `/readyz`. */
export async function serviceState(service: string, url: string): Promise<ServiceState> {
  const asked = await ask(service, async () => {
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5_000) })
    return { status: response.status, body: (await response.json()) as ReadinessAnswer }
  })
  if (!asked.answer) return { service, state: 'away', reasons: [asked.reason ?? ''] }
  const { status: code, body } = asked.answer
  const failed = (body.checks ?? []).filter((check) => check.status !== 'ok')
  const state = code !== 200 ? 'unavailable' : body.status === 'degraded' ? 'degraded' : 'ready'
  return { service, state, reasons: failed.map(({ name, reason }) => `${name}: ${reason ?? 'failed'}`) }
}

/** Those of the table, each that sends with how far its group has come. */
async function bridgesOf({ bus, databases }: Reach): Promise<Asked<BridgeState[]>> {
  const { answer: notes, reason } = await ask('the bridge database', () => readBridgeNotes(databases[bridgeService]))
  if (!notes) return { reason: reason ?? '' }
  const answer = notes.map(async (note): Promise<BridgeState> => {
    const group = groupOfBridge(note)
    return group ? { ...note, behind: await ask('Kafka', () => lagSum(bus, group)) } : note
  })
  return { answer: await Promise.all(answer) }
}

async function lagSum(bus: Reach['bus'], group: { group: string; topics: string[] }): Promise<GroupState> {
  const lags = await lagOf(bus, group)
  return {
    group: group.group,
    messages: lags.reduce((sum, { messages }) => sum + messages, 0n),
    seconds: Math.max(0, ...lags.map(({ seconds }) => seconds)),
    partitions: lags.filter(({ messages }) => messages > 0n),
  }
}

export const first = async <Row>(query: Promise<{ rows: Row[] }>): Promise<Row> => (await query).rows[0] as Row

const databaseState = ({ query }: Database<unknown>) =>
  first(
    sql<DatabaseState>`
      select outbox.*, parked.*
      from (
        select count(*)::integer "outbox",
          coalesce(extract(epoch from now() - min(created_at)), 0)::float8 "outboxSeconds",
          count(*) filter (where refused is not null)::integer "refused",
          (array_agg(headers->>'ce_id' order by id) filter (where refused is not null))[1] "refusedEvent"
        from outbox
      ) as outbox, (
        select count(*) filter (where state = 'waiting')::integer "waiting",
          coalesce(extract(epoch from now() - min(parked_at) filter (where state = 'waiting')), 0)::float8 "waitingSeconds",
          count(*) filter (where state = 'dead')::integer "dead",
          coalesce(extract(epoch from now() - min(parked_at) filter (where state = 'dead')), 0)::float8 "deadSeconds"
        from parked_message where state in ('waiting', 'dead')
      ) as parked`.execute(query),
  )

const orderState = ({ query }: Database<unknown>) =>
  first(
    sql<OrderState>`
      select count(*)::integer "pending",
        count(*) filter (where reservation_deadline < now())::integer "overdue",
        coalesce(extract(epoch from now() - min(reservation_deadline) filter (where reservation_deadline < now())), 0)::float8
          "overdueSeconds",
        (array_agg(id order by reservation_deadline) filter (where reservation_deadline < now()))[1] "oldestOverdue"
      from "order" where status = 'pending'`.execute(query),
  )

/** When a mail was last tried: its claim has moved this to the end of a lease of 20 s. */
const triedLastDay = sql`next_attempt_at > now() - interval '1 day'`

/** What is said of the mails in the notification database. */
export async function mailState({ query }: Database<unknown>): Promise<MailState> {
  const counts = await first(
    sql<Omit<MailState, 'reasons'>>`
      select count(*) filter (where state = 'queued')::integer "queued",
        coalesce(extract(epoch from now() - min(coalesce(resent_at, created_at)) filter (where state = 'queued' and lane = 'urgent')), 0)::float8 "queuedSeconds",
        count(*) filter (where state = 'queued' and lane = 'bulk')::integer "bulk",
        coalesce(extract(epoch from now() - least(now(), min(next_attempt_at) filter (where state = 'queued' and lane = 'bulk'))), 0)::float8 "bulkSeconds",
        count(*) filter (where state = 'awaiting-recipient')::integer "awaiting",
        count(*) filter (where state = 'failed')::integer "failed",
        count(*) filter (where state = 'failed' and ${triedLastDay})::integer "failedLastDay",
        (array_agg(cause_id order by next_attempt_at desc) filter (where state = 'failed'))[1] "failedCause",
        (array_agg(user_id order by next_attempt_at desc) filter (where state = 'failed'))[1] "failedUser"
      from notification where state in ('queued', 'awaiting-recipient', 'failed')`.execute(query),
  )
  const { rows } = await sql<MailState['reasons'][number]>`
    select state, last_error "reason", count(*)::integer "mails" from notification
    where last_error is not null and (state = 'queued' or (state = 'failed' and ${triedLastDay}))
    group by 1, 2 order by 3 desc, 1, 2 limit 10`.execute(query)
  return { ...counts, reasons: rows }
}
