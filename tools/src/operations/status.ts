import { parseArgs } from 'node:util'
import {
  age,
  bad,
  faint,
  firstLine,
  good,
  plural,
  secondsSince,
  shop,
  strong,
  table,
  toJson,
} from '../terminal/format.ts'
import { print, shown } from '../terminal/printing.ts'
import type { Asked } from './answers.ts'
import { readGroups } from './groups.ts'
import { reachHelp, withReach } from './shop-access.ts'
import {
  type BridgeState,
  type GroupState,
  type Problem,
  type ServiceState,
  type ShopState,
  stateOf,
} from './shop-state.ts'
import { patience, problemsOf } from './status-problems.ts'

export const usage = `Usage: npm run shop -- status [--json]

The state of the shop on one screen: services, lag, bridges, outboxes, parked messages, overdue orders, mails. Marks what is wrong
and names the next command to run. Each part is asked on its own, so it works while others are away.

A person is needed, and the exit code is 1, when a service is not ready or degraded, or a part cannot be asked; when a
message waits longer than ${patience.lag} s for its group or behind an open transaction, an event longer than ${patience.outbox} s in an outbox, an order longer than
${patience.overdue} s past its deadline, a parked message longer than ${patience.parked / 60} min, a mail longer than ${patience.mail / 60} min, one of a mailing longer than
${patience.mailing / 60} min for its turn; when a partition stands before what cannot be read, the broker refuses an event, a parked message
is dead, or a mail has failed on the last day; when the broker of a bridge is away for longer than ${patience.away} s, or a bridge is ${patience.bridge / 60} min behind or has not been
seen for ${patience.unseen} s. Exit code 0 when all is well.

  --json  {ok, problems: [{what, run, runbook}], services, kafka, unreadable, groups, bridges, databases, orders, mails}; what cannot
          be asked has a reason

${reachHelp}`

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

/** What a group has yet to handle, in words. */
function groupInWords({ answer, reason }: Asked<GroupState>): string {
  if (!answer) return reason ?? ''
  if (answer.messages === 0n) return 'nothing'
  const hidden = answer.partitions.reduce((sum, one) => sum + one.hidden, 0n)
  const behind = hidden > 0n ? `, ${hidden} of them behind an open transaction` : ''
  return `${plural(answer.messages, 'message')}${answer.seconds > 0 ? `, oldest ${age(answer.seconds)}` : ''}${behind}`
}

/** A deployment without bridges says nothing of them; why they cannot be asked, their database says. */
function bridgeLines(bridges: readonly BridgeState[]): string[] {
  if (bridges.length === 0) return []
  const rows = bridges.map((bridge) => {
    const { name, direction, kind, awaySince, awayReason, behind } = bridge
    const way = direction === 'send' ? `sends to ${kind}` : `receives from ${kind}`
    const away = awaySince && bad(`away for ${age(secondsSince(awaySince))}: ${shown(firstLine(awayReason ?? ''))}`)
    return [name.padEnd(12), way, behind ? groupInWords(behind) : '', away ?? '']
  })
  return [strong('Bridges, and what they have not handed on yet'), ...table(rows)]
}

/** One screen. */
function screenOf({ services, groups, bridges, databases, orders, mails }: ShopState, problems: Problem[]): string {
  const stateWords = (state: ServiceState['state']) => (state === 'ready' ? good(state) : bad(state))
  const oldest = (seconds: number) => (seconds > 0 ? `, oldest ${age(seconds)}` : '')
  const lines = [
    strong('Services'),
    ...services.map(({ service, state, reasons }) =>
      `  ${service.padEnd(14)}${stateWords(state)} ${reasons.join('; ')}`.trimEnd(),
    ),
    strong('Not handled yet, by group'),
    ...table(groups.map((one) => [one.group.padEnd(12), groupInWords(one)])),
    ...bridgeLines(bridges.answer ?? []),
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
  return [
    ...lines,
    bad(`${plural(problems.length, 'thing needs', 'things need')} a person`),
    ...problemLines(problems),
  ].join('\n')
}

/** What has the same runbook stands together, and what has the same advice as well: each is said once. */
export const problemLines = (problems: readonly Problem[]): string[] =>
  [...Map.groupBy(problems, ({ runbook }) => runbook)].flatMap(([runbook, ofRunbook]) => [
    ...[...Map.groupBy(ofRunbook, ({ run }) => run)].flatMap(([run, some]) => [
      ...some.map(({ what }) => `${bad('✗')} ${what}`),
      `  ${faint('→')} ${run}`,
    ]),
    `  ${faint(`→ ${runbook}`)}`,
  ])
