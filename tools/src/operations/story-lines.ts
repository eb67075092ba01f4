import { bad, clock, faint, firstLine, good, plural, strong } from '../terminal/format.ts'
import { shown } from '../terminal/printing.ts'
import { bridgeHandlingLine } from './bridge-handlings.ts'
import type { EventStory, Handling } from './story.ts'
import { placeInWords } from './unreadable-stretches.ts'
import { type MailStory, nameOf, type Verdict, writerOf } from './verdict.ts'

/** How stories are printed. */

export function headline(what: string, state: string, { state: verdict }: Verdict): string {
  return `${strong(what)}  ${verdict === 'stuck' ? bad(`${state}, stuck`) : good(state)}`
}

/** An event, and a line for each group that consumes it. */
export function eventLines(event: EventStory, now: Date): string[] {
  const { topic, partition, offset, time, writtenAt, inOutbox, handledBy, bridges = [], id, problem, copyOf } = event
  const place = offset === null ? `in the outbox of ${inOutbox?.owner}` : `${topic}/${partition}@${offset}`
  const copy = copyOf ? `, a dead-letter copy that ${copyOf.group} has made of ${shown(copyOf.place)}` : ''
  const written = inOutbox
    ? `${bad('not published')} since ${clock(inOutbox.since, now)}${inOutbox.refused ? `: ${inOutbox.refused}` : ''}`
    : `written ${writtenAt ? clock(writtenAt, now) : '?'}`
  return [
    `${time ? clock(time, now) : '?'.padEnd(12)}  ${strong(nameOf(event))} by ${writerOf(event)}${copy}, ${place}, ${written}  ${faint(`id ${shown(id ?? '?')}`)}`,
    ...(problem ? [`              ${bad(shown(problem))}`] : []),
    ...handledBy.flatMap((handling) => handlingLines(handling, now)),
    ...bridges.map((handling) => bridgeHandlingLine(handling, now)),
  ]
}

/** What a group has done, in words. */
function handlingLines({ group, state, at, before, parked, behind, stretch, reason }: Handling, now: Date): string[] {
  const when = at ? clock(at, now) : '?'
  const words: Record<Handling['state'], string> = {
    handled: `handled ${when}${parked ? `, parked from ${clock(parked.parkedAt, now)}, ${plural(parked.history.length, 'failed attempt')}` : ''}`,
    lagging: bad(
      `not handled: ${before ? `${plural(before, 'message')} before it` : 'it is the next'}${stretch ? `, and it stands before ${placeInWords(stretch)}, which cannot be read` : ''}`,
    ),
    retried: bad(`parked ${when}, ${plural(parked?.attempts ?? 0, 'failed attempt')}`),
    behind: bad(`parked ${when} behind message ${behind?.id}`),
    dead: bad(`dead, parked ${when}, ${plural(parked?.attempts ?? 0, 'failed attempt')}`),
    discarded: bad(`discarded ${when}`),
    'stepped-over': bad(`stepped over ${stretch ? placeInWords(stretch) : 'it'} ${when}, which it could not read`),
    skipped: bad('passed it and recorded nothing'),
    unrecorded: faint('has passed it; nothing more is kept of that'),
    unknown: bad(reason ?? 'cannot be asked'),
  }
  const attempts = parked?.history.length
    ? parked.history.map(
        ({ number, at: tried, error }) => `attempt ${number} at ${clock(tried, now)}: ${shown(firstLine(error))}`,
      )
    : parked?.error
      ? [shown(firstLine(parked.error))]
      : []
  const actions = (parked?.actions ?? []).map(
    (done) =>
      `${done.action} by ${shown(done.actor)} at ${clock(done.at, now)}${done.reason ? `: ${shown(done.reason)}` : ''}`,
  )
  return [
    `              → ${group} ${words[state]}`,
    ...[...attempts, ...actions].map((line) => `                ${faint(line)}`),
  ]
}

/** A mail as a row of a table. */
export function mailLine({ kind, state, askedAt, sentAt, attempts, lastError }: MailStory, now: Date): string[] {
  const when = sentAt ? `sent ${clock(sentAt, now)}` : state === 'sent' ? state : bad(state)
  const tries = plural(attempts, 'attempt')
  return [`${clock(askedAt, now)}  mail "${kind}"`, when, tries, lastError ? shown(firstLine(lastError)) : '']
}

export function verdictLines({ state, text, run }: Verdict): string[] {
  const mark = state === 'stuck' ? bad('✗') : good(state === 'working' ? '…' : '✓')
  return [`${mark} ${text}`, ...run.map((command) => `  ${faint('→')} ${command}`)]
}
