import { age, firstLine, plural, secondsSince, shop } from '../terminal/format.ts'
import { shown } from '../terminal/printing.ts'
import { bridgeService } from './bridges.ts'
import type { Lag } from './lag.ts'
import type { BridgeState, Problem, ShopState } from './shop-state.ts'
import { type Stretch, type StretchPlace, showCommand } from './unreadable-stretches.ts'
import { isUuid } from './uuids.ts'

/** From when on something that heals by itself as a rule is told as a problem; in seconds. */
export const patience = {
  lag: 60,
  outbox: 60,
  overdue: 60,
  parked: 600,
  mail: 300,
  mailing: 3_600,
  away: 30,
  bridge: 300,
  unseen: 60,
}

/** What needs a person, the cause before what follows from it. */
export function problemsOf(state: ShopState): Problem[] {
  return [
    ...serviceProblems(state),
    ...state.unreadable.map(stretchProblem),
    ...state.databases.flatMap(databaseProblems),
    ...kafkaProblems(state),
    ...transactionProblems(state),
    ...backlogProblems(state),
    ...bridgeProblems(state),
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
      blocked ? 'unreadable-records' : 'service-away',
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

const offsetsInWords = ({ firstOffset, lastOffset }: StretchPlace) =>
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
function isTold({ unreadable }: Pick<ShopState, 'unreadable'>, service: string, lag: Lag): boolean {
  const { topic, partition, position, end, hidden } = lag
  if (end - hidden <= position) return true
  return unreadable.some(
    (one) => one.topic === topic && one.partition === partition && one.met.some((met) => met.service === service),
  )
}

function backlogProblems(state: ShopState): Problem[] {
  return state.groups.flatMap(({ group, answer }) => {
    const slow = (answer?.partitions ?? []).filter((one) => !isTold(state, group, one))
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

/** One that waits for its broker, or does not run, is behind by that: it is told once. */
export function bridgeProblems(
  state: Pick<ShopState, 'bridges' | 'services' | 'unreadable'>,
  now = new Date(),
): Problem[] {
  const isAway = state.services.some(({ service, state }) => service === bridgeService && state === 'away')
  const bridges = state.bridges.answer ?? []
  const isUnseen = ({ unseenSeconds }: BridgeState) => !isAway && unseenSeconds > patience.unseen
  const waits = (bridge: BridgeState) => !isAway && bridge.awaySince !== null && !isUnseen(bridge)
  const waiting = bridges.filter(
    (bridge) => waits(bridge) && secondsSince(bridge.awaySince as Date, now) > patience.away, // before, it is a restart
  )
  // A broker that is gone is so for all its bridges.
  const together = Map.groupBy(waiting, ({ kind, awayReason }) => `${kind} ${firstLine(awayReason ?? '')}`)
  return [
    ...bridges
      .filter(isUnseen)
      .map(({ name, unseenSeconds }) =>
        problem(
          `bridge ${name} has not been seen for ${age(unseenSeconds)}, and what it does is not known`,
          `see that every instance of the ${bridgeService} service runs, and what its log says`,
          'bridge-behind',
        ),
      ),
    ...[...together.values()].map((some) => awayProblem(some, now)),
    ...bridges
      .filter((bridge) => !isUnseen(bridge) && !waits(bridge))
      .flatMap((bridge) => behindProblem(state, bridge)),
  ]
}

/** Of bridges whose brokers are away for one reason. */
function awayProblem(bridges: readonly BridgeState[], now: Date): Problem {
  const names = bridges.map(({ name }) => name)
  const does = [...new Set(bridges.map(({ direction }) => (direction === 'send' ? 'takes' : 'gives')))].join(' and ')
  const since = new Date(Math.min(...bridges.map(({ awaySince }) => Number(awaySince))))
  const [{ kind, awayReason } = { kind: '', awayReason: null }] = bridges
  const whose = names.length === 1 ? `bridge ${names[0]}: its` : `bridges ${names.join(', ')}: their`
  return problem(
    `${whose} broker (${kind}) ${does} nothing for ` +
      `${age(secondsSince(since, now))}, since ${since.toISOString()}: ${shown(firstLine(awayReason ?? ''))}`,
    'mend what it names: the broker, its queue, or the URL with its password; what waits is handed on then',
    'bridge-broker-away',
  )
}

function behindProblem(state: Pick<ShopState, 'unreadable'>, { name, behind }: BridgeState): Problem[] {
  const slow = (behind?.answer?.partitions ?? []).filter((one) => !isTold(state, bridgeService, one))
  const seconds = Math.max(0, ...slow.map((one) => one.seconds))
  if (seconds <= patience.bridge) return []
  const messages = slow.reduce((sum, one) => sum + one.messages, 0n)
  return [
    problem(
      `bridge ${name} is ${plural(messages, 'message')} behind, by ${age(seconds)}`,
      shop(`lag --group ${behind?.answer?.group}`),
      'bridge-behind',
    ),
  ]
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
