import { parseArgs } from 'node:util'
import { type Database, sql } from '@shopstream/database'
import { age, bad, faint, good, plural, shop, strong, table, toJson } from '../terminal/format.ts'
import { print, shown } from '../terminal/printing.ts'
import { type Asked, ask } from './asked.ts'
import { type Group, readGroups } from './groups.ts'
import { type Lag, lagOf } from './lag.ts'
import { type Owner, owners, type Reach, reachHelp, withReach } from './reach.ts'
import { allMet, type Place, type Stretch, showCommand, stretchesOf } from './unreadable-stretches.ts'
import { isUuid } from './uuids.ts'

/** From when on something that heals by itself as a rule is told as a problem; in seconds. */
const patience = { lag: 60, outbox: 60, overdue: 60, parked: 600, mail: 300, mailing: 3_600 }

export const usage = `Usage: npm run shop -- status [--json]

The state of the shop on one screen: services, lag, outboxes, parked messages, overdue orders, mails. Marks what is wrong
and names the next command to run. Each part is asked on its own, so it works while others are away.

A person is needed, and the exit code is 1, when a service is not ready or degraded, or a part cannot be asked; when a
message waits longer than ${patience.lag} s for its group or behind an open transaction, an event longer than ${patience.outbox} s in an outbox, an order longer than
${patience.overdue} s past its deadline, a parked message longer than ${patience.parked / 60} min, a mail longer than ${patience.mail / 60} min, one of a mailing longer than
${patience.mailing / 60} min for its turn; when a partition stands before what cannot be read, the broker refuses an event, a parked message
is dead, or a mail has failed on the last day. Exit code 0 when all is well.

  --json  {ok, problems: [{what, run, runbook}], services, kafka, unreadable, groups, databases, orders, mails}; what cannot
          be asked has a reason

${reachHelp}`

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

interface GroupState {
  group: string
  messages: bigint
  seconds: number
  /** The partitions that have any. */
  partitions: Lag[]
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
  databases: ({ service: Owner } & Asked<DatabaseState>)[]
  orders: Asked<OrderState>
  mails: Asked<MailState>
}

export async function status(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { json: { type: 'boolean' } } })
  const groups = await readGroups()
  return withReach(async (reach) => {
    const state = await stateOf(reach, groups)
    const problems = problemsOf(state)
    const ok = problems.length === 0
    if (values.json) console.log(toJson({ ok, problems, ...state }, 2))
    else print(screenOf(state, problems))
    return ok ? 0 : 1
  })
}

async function stateOf(reach: Reach, groups: Group[]): Promise<ShopState> {
  const { serviceUrls, bus, databases } = reach
  const [services, lags, perDatabase, orders, mails, { met }] = await Promise.all([
    Promise.all(Object.entries(serviceUrls).map(([service, url]) => serviceState(service, url))),
    Promise.all(
      groups.map(async (group) => ({ group: group.group, ...(await ask('Kafka', () => lagSum(bus, group))) })),
    ),
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

async function lagSum(bus: Reach['bus'], group: Group): Promise<GroupState> {
  const lags = await lagOf(bus, group)
  return {
    group: group.group,
    messages: lags.reduce((sum, { messages }) => sum + messages, 0n),
    seconds: Math.max(0, ...lags.map(({ seconds }) => seconds)),
    partitions: lags.filter(({ messages }) => messages > 0n),
  }
}

const first = async <Row>(query: Promise<{ rows: Row[] }>): Promise<Row> => (await query).rows[0] as Row

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

/** What needs a person, the cause before what follows from it. */
function problemsOf(state: ShopState): Problem[] {
  return [
    ...serviceProblems(state),
    ...state.unreadable.map(stretchProblem),
    ...state.databases.flatMap(databaseProblems),
    ...kafkaProblems(state),
    ...transactionProblems(state),
    ...backlogProblems(state),
    ...orderProblems(state),
    ...mailProblems(state),
  ]
}

const problem = (what: string, run: string, page: string): Problem => ({
  what,
  run,
  runbook: `docs/runbooks/${page}.md`,
})

function serviceProblems({ services, unreadable }: ShopState): Problem[] {
  const ownTrouble = services.some(({ service, state }) => service !== 'gateway' && state !== 'ready')
  return services.flatMap(({ service, state, reasons }) => {
    if (service === 'gateway' && state === 'degraded' && ownTrouble) return [] // it repeats what the others say
    if (state === 'ready') return []
    if (state === 'away')
      return problem(
        `${service} is away (${reasons.join('; ')})`,
        `start it, as it was deployed (locally: npm start); its log says why`,
        'service-away',
      )
    const others = reasons.filter((reason) => !isToldAsStretch(reason, service, unreadable))
    if (others.length === 0) return []
    const blocked = others.every((reason) => reason.startsWith('partitions: '))
    return problem(
      `${service} is ${state} (${others.join('; ')})`,
      `mend what it names; then: ${shop('status')}`,
      blocked ? 'blocked-partition' : 'service-away',
    )
  })
}

/** Whether all partitions that a service names in a reason stand before what is told by itself. */
function isToldAsStretch(reason: string, service: string, unreadable: readonly Stretch[]): boolean {
  if (!reason.startsWith('partitions: ')) return false
  const named = [...reason.matchAll(/(\S+\/\d+) stands still since /g)].map(([, place]) => place)
  const told = new Set(
    unreadable
      .filter(({ met }) => met.some((one) => one.service === service))
      .map(({ topic, partition }) => `${topic}/${partition}`),
  )
  return named.length > 0 && named.every((place) => told.has(place as string))
}

const offsetsInWords = ({ firstOffset, lastOffset }: Place) =>
  firstOffset === lastOffset ? `offset ${firstOffset}` : `offsets ${firstOffset} to ${lastOffset}`

function stretchProblem(stretch: Stretch): Problem {
  const { topic, partition, reason, since, met } = stretch
  const groups = met.map(({ service }) => service)
  return problem(
    `${topic}/${partition} cannot be read at ${offsetsInWords(stretch)}: ${shown(reason)}; ` +
      `${groups.join(', ')} ${groups.length > 1 ? 'stand' : 'stands'} before it since ${since.toISOString()}`,
    showCommand(stretch),
    'unreadable-records',
  )
}

function databaseProblems({ service, reason, answer }: ShopState['databases'][number]): Problem[] {
  if (!answer)
    return [
      problem(
        `the ${service} database ${reason}`,
        `start Postgres, or mend its URL; the ${service} service makes its tables when it starts`,
        'service-away',
      ),
    ]
  const { outbox, outboxSeconds, refused, refusedEvent, waiting, waitingSeconds, dead, deadSeconds } = answer
  const problems: Problem[] = []
  if (refused > 0)
    problems.push(
      problem(
        `${service}: the broker refuses ${plural(refused, 'event')} for good, and their keys wait`,
        isUuid(refusedEvent ?? '')
          ? shop(`explain event ${refusedEvent}`)
          : `look at the rows of outbox with a reason in column refused (database ${service})`,
        'outbox-refused',
      ),
    )
  else if (outboxSeconds > patience.outbox)
    problems.push(
      problem(
        `${service}: ${plural(outbox, 'event')} wait in the outbox, the oldest for ${age(outboxSeconds)}`,
        `see that Kafka and the ${service} service run`,
        'outbox-late',
      ),
    )
  if (dead > 0)
    problems.push(
      problem(
        `${service}: ${plural(dead, 'message is', 'messages are')} dead, the oldest parked ${age(deadSeconds)} ago`,
        shop(`dead-letters list --group ${service}`),
        'dead-letters',
      ),
    )
  if (waitingSeconds > patience.parked)
    problems.push(
      problem(
        `${service}: ${plural(waiting, 'message')} parked, the oldest for ${age(waitingSeconds)}`,
        shop(`dead-letters list --group ${service}`),
        'parked-messages-too-old',
      ),
    )
  return problems
}

/** Kafka can answer, and yet not say where a group stands: a topic is missing, or a partition has no leader. */
function kafkaProblems({ kafka, groups }: ShopState): Problem[] {
  const unasked = groups.filter(({ reason }) => reason)
  const [first] = unasked
  if (kafka.reason)
    return [
      problem(`Kafka ${first?.reason ?? kafka.reason}`, 'start Kafka, or mend KAFKA_BROKERS', 'consumer-not-fetching'),
    ]
  if (!first) return []
  const names = unasked.map(({ group }) => group).join(', ')
  return [
    problem(
      `Kafka answers, but where ${names} stand ${first.reason}`,
      'see that all its brokers run and that the topics are there: npm start, or deploying, makes those that are missing',
      'consumer-not-fetching',
    ),
  ]
}

const partitionsOf = ({ groups }: ShopState): Lag[] => groups.flatMap(({ answer }) => answer?.partitions ?? [])

/** Once for each partition, whichever groups wait. */
function transactionProblems(state: ShopState): Problem[] {
  const late = partitionsOf(state).filter(({ hiddenSeconds }) => hiddenSeconds > patience.lag)
  return [...Map.groupBy(late, ({ topic, partition }) => `${topic}/${partition}`)].map(([place, ofPlace]) => {
    const [{ hidden, hiddenSeconds }] = ofPlace as [Lag]
    const groups = ofPlace.map(({ group }) => group)
    return problem(
      `${place}: ${plural(hidden, 'message waits', 'messages wait')} behind a transaction that a producer has left open ` +
        `for ${age(hiddenSeconds)}; ${groups.join(', ')} cannot see ${hidden === 1n ? 'it' : 'them'}`,
      `end that producer, or abort its transaction; ${shop('lag')} shows when it is over`,
      'backlog-too-old',
    )
  })
}

/** What waits for a reason that is told by itself is not told again. */
function backlogProblems(state: ShopState): Problem[] {
  const isTold = ({ group, topic, partition, position, end, hidden }: Lag) =>
    end - hidden <= position ||
    state.unreadable.some(
      (one) => one.topic === topic && one.partition === partition && one.met.some(({ service }) => service === group),
    )
  return state.groups.flatMap(({ group, answer }) => {
    const slow = (answer?.partitions ?? []).filter((one) => !isTold(one))
    const seconds = Math.max(0, ...slow.map((one) => one.seconds))
    if (seconds <= patience.lag) return []
    const messages = slow.reduce((sum, one) => sum + one.messages, 0n)
    return problem(
      `${group} is ${plural(messages, 'message')} behind, by ${age(seconds)}`,
      shop(`lag --group ${group}`),
      'backlog-too-old',
    )
  })
}

function orderProblems({ orders }: ShopState): Problem[] {
  if (!orders.answer || orders.answer.overdueSeconds <= patience.overdue) return []
  const { overdue, overdueSeconds, oldestOverdue } = orders.answer
  return [
    problem(
      `${plural(overdue, 'order is', 'orders are')} past the deadline and still pending, by ${age(overdueSeconds)}`,
      shop(`explain ${oldestOverdue}`),
      'order-overdue',
    ),
  ]
}

export function mailProblems({ mails }: Pick<ShopState, 'mails'>): Problem[] {
  if (!mails.answer) return []
  const { queued, queuedSeconds, bulk, bulkSeconds, failedLastDay, failedUser } = mails.answer
  const said = (state: 'queued' | 'failed') => {
    const reasons = mails.answer?.reasons.filter((one) => one.state === state).slice(0, 3) ?? []
    return reasons.length > 0 ? `: ${reasons.map((one) => `${shown(one.reason)} (${one.mails})`).join(', ')}` : ''
  }
  const problems: Problem[] = []
  if (queuedSeconds > patience.mail)
    problems.push(
      problem(
        `${plural(queued, 'mail waits', 'mails wait')}, the oldest for ${age(queuedSeconds)}${said('queued')}`,
        'see that the SMTP server runs',
        'mails-late',
      ),
    )
  if (bulkSeconds > patience.mailing)
    problems.push(
      problem(
        `${plural(bulk, 'mail')} of mailings: the first has waited for its turn for ${age(bulkSeconds)}${said('queued')}`,
        'see that the SMTP server answers mails',
        'mails-late',
      ),
    )
  if (failedLastDay > 0)
    problems.push(
      problem(
        `${plural(failedLastDay, 'mail')} failed for good on the last day${said('failed')}`,
        shop(`explain user ${failedUser}`),
        'mails-late',
      ),
    )
  return problems
}

/** What a group has yet to handle, in words. */
function groupInWords({ answer, reason }: ShopState['groups'][number]): string {
  if (!answer) return reason ?? ''
  if (answer.messages === 0n) return 'nothing'
  const hidden = answer.partitions.reduce((sum, one) => sum + one.hidden, 0n)
  const behind = hidden > 0n ? `, ${hidden} of them behind an open transaction` : ''
  return `${plural(answer.messages, 'message')}${answer.seconds > 0 ? `, oldest ${age(answer.seconds)}` : ''}${behind}`
}

/** One screen. */
function screenOf({ services, groups, databases, orders, mails }: ShopState, problems: Problem[]): string {
  const stateWords = (state: ServiceState['state']) => (state === 'ready' ? good(state) : bad(state))
  const oldest = (seconds: number) => (seconds > 0 ? `, oldest ${age(seconds)}` : '')
  const lines = [
    strong('Services'),
    ...services.map(({ service, state, reasons }) =>
      `  ${service.padEnd(14)}${stateWords(state)} ${reasons.join('; ')}`.trimEnd(),
    ),
    strong('Not handled yet, by group'),
    ...table(groups.map((one) => [one.group.padEnd(12), groupInWords(one)])),
    strong('Outbox and parked messages, by service'),
    ...table(
      databases.map(({ service, answer: held, reason }) =>
        held
          ? [
              service.padEnd(12),
              `outbox ${held.outbox}${oldest(held.outboxSeconds)}`,
              `refused ${held.refused}`,
              `parked ${held.waiting}${oldest(held.waitingSeconds)}`,
              `dead ${held.dead}${oldest(held.deadSeconds)}`,
            ]
          : [service.padEnd(12), reason ?? '', '', '', ''],
      ),
    ),
    strong('Orders'),
    `  ${orders.answer ? `${orders.answer.pending} pending, ${orders.answer.overdue} of them past the deadline${oldest(orders.answer.overdueSeconds)}` : orders.reason}`,
    strong('Mails'),
    `  ${mails.answer ? `${mails.answer.queued} queued${oldest(mails.answer.queuedSeconds)}, ${mails.answer.bulk} of them of mailings${oldest(mails.answer.bulkSeconds)}, ${mails.answer.awaiting} wait for their recipient, ${mails.answer.failed} failed` : mails.reason}`,
    ...(mails.answer?.reasons ?? []).map(({ state, reason, mails }) => `    ${mails} ${state}: ${shown(reason)}`),
    '',
  ]
  const tried = databases.reduce((sum, { answer }) => sum + (answer?.waiting ?? 0), 0)
  if (tried > 0 && problems.length === 0)
    lines.push(`${plural(tried, 'message is', 'messages are')} being tried again: ${shop('dead-letters list')}`)
  if (problems.length === 0) return [...lines, good('All is well.')].join('\n')
  const told = problems.flatMap(({ what, run, runbook }) => [
    `${bad('✗')} ${what}`,
    `  ${faint('→')} ${run}`,
    `  ${faint(`→ ${runbook}`)}`,
  ])
  return [...lines, bad(`${plural(problems.length, 'thing needs', 'things need')} a person`), ...told].join('\n')
}
