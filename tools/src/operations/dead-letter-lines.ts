import {
  inboundName,
  inboxWindowDays,
  type KeyPlan,
  type Letter,
  type LetterAction,
  type LetterDetails,
  type LetterState,
  unparkedBy,
} from '@shopstream/messaging/operations'
import {
  age,
  bad,
  clock,
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
import { headerInWords, keyInWords, printable, shown, typeInWords } from '../terminal/printing.ts'
import type { BridgeNote } from './bridges.ts'
import type { ReadEvent } from './read-event.ts'
import type { Owner } from './shop-access.ts'

/** How `dead-letters` puts things. */

/** A parked message of some group; `ref` is what people call it by. */
export type Found = Letter & {
  group: Owner
  ref: string
  away?: Pick<BridgeNote, 'name' | 'kind' | 'awaySince' | 'awayReason'>
  /** The bridge that has parked it, and which no process has any more: nobody tries it. */
  gone?: string
}

/** What waits for the broker of its bridge says so: that it waits is no attempt, and its error is of the last one. */
export const withAbsence = <T extends Letter>(letters: readonly T[], bridges: readonly BridgeNote[]) =>
  letters.map((letter): T & Pick<Found, 'away' | 'gone'> => {
    const { topic, bridge } = unparkedBy(letter.topic)
    if (bridge === undefined) return letter
    const direction = topic === inboundName ? 'receive' : 'send'
    const note = bridges.find((one) => one.name === bridge && one.direction === direction)
    if (!note) return { ...letter, gone: bridge }
    return note.awaySince && direction === 'send' && letter.state === 'waiting' ? { ...letter, away: note } : letter
  })

/** All that is told of one, personal data masked. */
export type Details = Omit<LetterDetails, 'headers' | 'bytes'> &
  Pick<Found, 'group' | 'ref' | 'gone'> &
  Pick<ReadEvent, 'headers' | 'schemaId'> & {
    data?: unknown
    problem?: string | undefined
    bytes?: Buffer | undefined
    text?: string | undefined
  }

export type Planned = KeyPlan & { group: Owner }

export const past: Record<LetterAction, string> = { retry: 'made due', redrive: 'redriven', discard: 'discarded' }

const shortly = (text: string | null, length = 120) => printable(firstLine(text ?? '')).slice(0, length)
const nameOf = (letter: Letter) =>
  isInbound(letter)
    ? `what came in by bridge ${unparkedBy(letter.topic).bridge}`
    : `${typeInWords(letter.type ?? undefined)} of ${keyInWords(letter.key)}`

export function listLines(found: readonly Found[], now = new Date()): string[] {
  if (found.length === 0) return ['None.']
  const rows = found.map(({ ref, state, topic, type, key, attempts, followers, parkedAt, error }) => [
    ref,
    state,
    topic,
    shown(type ?? '-', 40),
    key === null ? '-' : keyInWords(key, 40),
    String(attempts),
    String(followers),
    age(secondsSince(parkedAt, now)),
    shortly(error),
  ])
  return [
    ...table([['ID', 'STATE', 'TOPIC', 'TYPE', 'KEY', 'TRIED', 'BEHIND', 'PARKED', 'ERROR'], ...rows]),
    faint(`  → ${shop(`dead-letters show ${found[0]?.ref}`)}`),
  ]
}

export function detailLines(letter: Details, now = new Date()): string[] {
  const { ref, followers, schemaId, data, problem, bytes, text, failures, actions } = letter
  return [
    `${strong(ref)}  ${isInbound(letter) ? arrivalOf(letter) : `${nameOf(letter)}, ${placeOf(letter)}`}`,
    `  ${stateOf(letter, now)}`,
    ...(followers > 0 ? [`  ${plural(followers, 'later message')} of its key behind it`] : []),
    strong('Headers'),
    ...table(Object.entries(letter.headers).map(([name, text]) => [shown(name), headerInWords(text)])),
    strong('Payload'),
    ...(problem === undefined
      ? [`  by schema ${schemaId}`, ...indented(toJson(data, 2))]
      : [
          ...(isInbound(letter) ? [] : [`  ${bad(`cannot be read: ${printable(problem)}`)}`]),
          ...payloadLines(text, bytes),
        ]),
    strong('Attempts that failed'),
    ...(failures.length === 0 ? ['  none'] : []),
    ...failures.flatMap(({ number, at, error }) => [
      `  ${number}. ${clock(at, now)}`,
      ...indented(isInbound(letter) ? withoutStack(error) : error, '     '),
    ]),
    strong('What people did'),
    ...(actions.length === 0 ? ['  nothing'] : []),
    ...actions.map(
      ({ action, actor, reason, at }) =>
        `  ${clock(at, now)} ${action} by ${printable(actor)}${reason ? `: ${printable(reason)}` : ''}`,
    ),
    ...hints(letter),
  ]
}

const payloadLines = (text: string | undefined, bytes: Buffer | undefined) =>
  text !== undefined ? indented(text) : bytes ? dump(bytes) : []

/** Whether a bridge has parked what came in to it. */
export const isInbound = ({ topic }: Pick<Letter, 'topic'>) => unparkedBy(topic).topic === inboundName

/** It has no place: its source has none, and what it claims may be missing. */
function arrivalOf({ topic, type, key }: Letter): string {
  const of = key === null ? '' : ` of ${keyInWords(key)}`
  return `${typeInWords(type ?? undefined)}${of}, which came in by bridge ${unparkedBy(topic).bridge} and does not fit`
}

/** The fault is its sender's, and no line of ours helps. */
const withoutStack = (error: string) =>
  error
    .split('\n')
    .filter((line) => !/^\s+at /.test(line))
    .join('\n')

/** By which bridge it was parked, if it was by one. */
function placeOf({ topic: parkedUnder, partition, offset, gone }: Details): string {
  const { topic, bridge } = unparkedBy(parkedUnder)
  if (bridge === undefined) return `${topic}/${partition}@${offset}`
  const why = gone === undefined ? 'whose broker does not take it' : 'which no process has any more'
  return `${topic}/${partition}@${offset}, parked by bridge ${bridge}, ${why}`
}

function stateOf({ state, group, attempts, behindDead, ...letter }: Found | Details, now: Date): string {
  const { parkedAt, endedAt, nextAttemptAt, waitsForSchema } = letter
  const words: Record<LetterState, string> = {
    dead: bad(`dead after ${plural(attempts, 'attempt')}`),
    waiting: bad(`waiting after ${plural(attempts, 'failed attempt')}`),
    behind:
      behindDead === null ? 'behind an earlier one of its key' : bad(`behind ${group}/${behindDead}, which is dead`),
    handled: good(`handled ${endedAt ? clock(endedAt, now) : ''}`),
    discarded: `discarded ${endedAt ? clock(endedAt, now) : ''}`,
  }
  const next = nextAttemptAt ? `, next attempt ${clock(nextAttemptAt, now)}` : ''
  const schema = waitsForSchema === null ? '' : `, waits for its writer's schema ${waitsForSchema}`
  return `${words[state]}, parked ${clock(parkedAt, now)}${next}${schema}`
}

function hints(letter: Details): string[] {
  const { ref, state, group, behindDead, waitsForSchema, gone } = letter
  if (state === 'dead' && isInbound(letter))
    return [
      faint(
        `  → have its sender mend it and send it again, then: ${shop(`dead-letters discard ${ref} --reason '...'`)}`,
      ),
      gone === undefined
        ? faint(`  → once a newer version of the service takes it as it is: ${shop(`dead-letters redrive ${ref}`)}`)
        : faint(`  → ${putBack(gone)}`),
    ]
  if (gone !== undefined && state !== 'handled' && state !== 'discarded')
    return [
      faint(`  → ${putBack(gone)}`),
      ...(state === 'dead' ? [faint(`  → once it is back: ${shop(`dead-letters redrive ${ref}`)}`)] : []),
      faint(`  → to give it up: ${shop(`dead-letters discard ${ref} --reason '...'`)}`),
    ]
  if (state === 'waiting' && waitsForSchema !== null)
    return [faint(`  → if that will never come: ${shop(`dead-letters discard ${ref} --reason '...'`)}`)]
  const about = state === 'dead' ? ref : behindDead === null ? undefined : `${group}/${behindDead}`
  if (about === undefined) return []
  return [
    faint(`  → once its cause is mended: ${shop(`dead-letters redrive ${about}`)}`),
    faint(`  → to go on without it: ${shop(`dead-letters discard ${about} --reason '...'`)}`),
  ]
}

const indented = (text: string, by = '  ') =>
  printable(text)
    .split('\n')
    .map((line) => by + line)

const dumpedBytes = 512
const lineBytes = 16

/** The beginning in hexadecimal, as it is read. */
export function hexLines(bytes: Buffer): string[] {
  const head = bytes.subarray(0, dumpedBytes)
  const lines = Array.from({ length: Math.ceil(head.length / lineBytes) }, (_, n) => {
    const line = head.subarray(n * lineBytes, (n + 1) * lineBytes)
    const hex = (line.toString('hex').match(/../g) ?? []).join(' ').padEnd(3 * lineBytes)
    return `  ${(n * lineBytes).toString(16).padStart(6, '0')}  ${hex} ${line.toString('latin1').replaceAll(/[^\x20-\x7e]/g, '.')}`
  })
  return [`  ${plural(bytes.length, 'byte')}`, ...lines]
}

/** Beside the beginning all of it in base64, as it is carried elsewhere. */
const dump = (bytes: Buffer): string[] => [...hexLines(bytes), `  base64 ${bytes.toString('base64')}`]

/** What would happen, key by key, in order. */
export function planLines(action: LetterAction, plans: readonly Planned[]): string[] {
  const verb = { retry: 'would be tried now', redrive: 'would be tried anew', discard: 'would be given up' }[action]
  const lines = plans.map(({ group, topic, key, ids, followers, stopsAt }, n) => {
    const refs = ids.map((id) => `${group}/${id}`).join(', ')
    const then = followers > 0 ? `, then ${plural(followers, 'message')} behind` : ''
    const stop = stopsAt === null ? '' : `; what comes after ${group}/${stopsAt} waits on, for that is dead too`
    return `${n + 1}. ${topic} ${keyInWords(key)}: ${refs}${then}${stop}`
  })
  const chosen = plans.reduce((sum, { ids }) => sum + ids.length, 0)
  const released = plans.reduce((sum, { followers }) => sum + followers, 0)
  return [
    ...lines,
    `${plural(chosen, 'message')} of ${plural(plans.length, 'key')} ${verb}, in this order; ${released} behind them would follow.`,
    'Nothing was changed.',
  ]
}

/** Whether it is known what became of a message since it was acted on. */
export function isSettled(action: LetterAction, before: Letter, now: Letter & Pick<Found, 'away' | 'gone'>): boolean {
  if (now.state !== 'waiting' && now.state !== 'behind') return true
  if (now.away) return true // nobody knows for how long
  if (now.gone !== undefined) return true // it has nobody who tries it
  if (now.behindDead !== null) return true // of which nothing comes until somebody decides about that one
  return action === 'retry' && (now.attempts !== before.attempts || now.error !== before.error)
}

export interface Outcome {
  action: LetterAction
  applied: number
  /** Others were faster, or it was being tried at the moment, or the command was interrupted. */
  leftOut: number
  /** Those of a redrive that may have taken effect before, and were not named: they stay as they are. */
  doubtful: readonly string[]
  waited: boolean
  exitCode: number
  messages: readonly Found[]
}

export function outcomeOf(done: {
  action: LetterAction
  planned: readonly Found[]
  doubtful: readonly Found[]
  ended: readonly Found[]
  waited: boolean
  interrupted: boolean
}): Outcome {
  const { action, planned, doubtful, ended, waited, interrupted } = done
  const failed = waited && ended.some(({ state }) => state !== 'handled')
  return {
    action,
    applied: ended.length,
    leftOut: planned.length - ended.length,
    doubtful: doubtful.map(({ ref }) => ref),
    waited,
    exitCode: interrupted ? 130 : failed ? 1 : 0,
    messages: ended,
  }
}

/** Why some of what the filters match is not redriven; no lines where there is none. */
export function doubtfulLines(refs: readonly string[]): string[] {
  if (refs.length === 0) return []
  return [
    `${plural(refs.length, 'message')} left out, whose events were older than ${inboxWindowDays} days when they came:`,
    'whether they took effect before is not known any more. Look at each (dead-letters show), and redrive it by its ID:',
    `  ${refs.join(' ')}`,
  ]
}

const putBack = (bridge: string) =>
  `no process has bridge ${bridge}, so nobody tries it: put its row back, or discard it`

function whyOpen({ away, gone, error }: Found, now: Date): string {
  if (gone !== undefined) return putBack(gone)
  if (!away?.awaySince) return shortly(error, 200)
  const { name, kind, awaySince, awayReason } = away
  return (
    `the broker (${kind}) of bridge ${name} takes nothing since ${clock(awaySince, now)} (${shortly(awayReason)}); ` +
    'it is tried once that is back'
  )
}

export function outcomeLines(
  { action, applied, leftOut, doubtful, waited, messages }: Outcome,
  now = new Date(),
): string[] {
  const counts = Map.groupBy(messages, ({ state }) => (state === 'dead' ? 'dead again' : state))
  const summary = [...counts].map(([state, ofState]) => `${state} ${ofState.length}`).join(', ')
  const open = waited ? messages.filter(({ state }) => state !== 'handled') : []
  return [
    `${plural(applied, 'message')} ${past[action]}${waited ? `: ${summary}` : ''}.`,
    ...(leftOut > 0
      ? [`${leftOut} left out: no longer in that state, being tried at the moment, or not come to any more.`]
      : []),
    ...doubtfulLines(doubtful),
    ...open.map((letter) => `  ${letter.ref} ${nameOf(letter)}: ${stateOf(letter, now)}: ${whyOpen(letter, now)}`),
  ]
}
