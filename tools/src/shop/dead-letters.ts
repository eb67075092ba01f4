import { userInfo } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { isUnavailable } from '@shopstream/database'
import {
  actOnLetters,
  type Decision,
  type Letter,
  type LetterAction,
  type LetterDetails,
  type LetterFilter,
  type LetterState,
  letterStates,
  listLetters,
  showLetter,
  statesFor,
} from '@shopstream/messaging'
import { Refusal, UsageError } from '../options.ts'
import { type Owner, owners, type Reach, reachHelp, withReach } from './reach.ts'

export const usage = `Usage: npm run shop -- dead-letters COMMAND [filters] [options]

  list       messages that failed, with their error and how many wait behind them
  show ID    payload, headers, every attempt with its error, what was done about it; raw bytes if they cannot be read
  retry      tries waiting ones now, ahead of their time
  redrive    lets dead ones be tried anew, their attempts counted from the beginning
  discard    gives up dead ones for good; what waits behind them goes on

Each but list takes IDs, as list prints them, such as order/12.

Filters, which all have to hold
  --group NAME          ${owners.join(', ')}; default: all
  --topic, --type, --key
  --error TEXT          part of the error
  --older-than TIME     parked longer ago, such as 90s, 15m, 2h or 3d
  --newer-than TIME
  --state STATES        ${letterStates.join(', ')}, separated by commas, or all
                        default: dead,waiting to list, dead to redrive and to discard, waiting to retry
  --limit N             the first N of each group

Options
  --json                list and show print JSON; the others, what became of the messages
  retry, redrive and discard need IDs, --key or --all, which is all that the other filters match, and take
  --dry-run             only print what would happen, in which order, to which keys
  --reason TEXT         kept with each message; discard needs one
  --actor NAME          who decides; default: SHOP_ACTOR, else the user of this system
  --rate N              messages a second; what waits behind them follows at the service's own speed
  --no-wait             do not wait for what becomes of them
  --timeout SECONDS     wait no longer than this; default: 300

The service's own process handles them, in the order of their key. A command that was interrupted is repeated as it was:
it goes on with those that were not redriven yet. Exit code 1: one is dead again, or still waiting.

${reachHelp}`

const options = {
  group: { type: 'string' },
  topic: { type: 'string' },
  type: { type: 'string' },
  key: { type: 'string' },
  error: { type: 'string' },
  'older-than': { type: 'string' },
  'newer-than': { type: 'string' },
  state: { type: 'string' },
  limit: { type: 'string' },
  json: { type: 'boolean' },
  all: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  reason: { type: 'string' },
  actor: { type: 'string' },
  rate: { type: 'string' },
  'no-wait': { type: 'boolean' },
  timeout: { type: 'string' },
} as const

type Values = ReturnType<
  typeof parseArgs<{ options: typeof options; args: string[]; allowPositionals: true }>
>['values']

const commands: Record<string, (values: Values, ids: string[]) => Promise<number>> = {
  list,
  show,
  retry: (values, ids) => act('retry', values, ids),
  redrive: (values, ids) => act('redrive', values, ids),
  discard: (values, ids) => act('discard', values, ids),
}

/** `npm run shop -- dead-letters`; see {@link usage}. */
export async function run([name = '', ...args]: string[]): Promise<number> {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (!command) throw new UsageError(`${name === '' ? 'Which command?' : `There is no command ${name}.`}\n\n${usage}`)
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  return command(values, positionals)
}

/** A parked message of some group; `ref` is what people call it by. */
type Found = Letter & { group: Owner; ref: string }

async function list(values: Values, ids: string[]): Promise<number> {
  if (ids.length > 0) throw new UsageError(`list takes filters alone; see one message: dead-letters show ${ids[0]}`)
  const choice = choose(values, [], ['dead', 'waiting'])
  return withReach(async (reach) => {
    const found = await find(reach, choice)
    if (values.json) printJson(found)
    else if (found.length === 0) console.log('None.')
    else printTable(found)
    return 0
  })
}

async function show(values: Values, ids: string[]): Promise<number> {
  const [name, ...more] = ids
  if (name === undefined || more.length > 0) throw new UsageError('show needs one ID, such as order/12')
  const { group, id } = parseId(name, values.group)
  return withReach(async (reach) => {
    const details = await asking(group, () => showLetter(reach.databases[group].query, id, reach.logger))
    if (!details) throw new Refusal(`${group}/${id} is not known, or ended more than 21 days ago`)
    if (values.json) printJson({ group, ref: `${group}/${id}`, ...details })
    else printDetails(`${group}/${id}`, details)
    return 0
  })
}

async function act(action: LetterAction, values: Values, ids: string[]): Promise<number> {
  if (ids.length === 0 && values.key === undefined && !values.all) {
    throw new UsageError(`${action} which? Give IDs, --key or --all (all that the other filters match)`)
  }
  if (action === 'discard' && !values.reason?.trim()) throw new UsageError('discard needs --reason')
  const choice = choose(values, ids, action === 'retry' ? ['waiting'] : ['dead'])
  const unfit = choice.filter.states?.find((state) => !statesFor(action).includes(state))
  if (values.state && unfit) throw new UsageError(`${action} is for ${statesFor(action).join(', ')}, not for ${unfit}`)
  const rate = positive('rate', values.rate)
  const timeoutMs = (positive('timeout', values.timeout) ?? 300) * 1_000
  const decision: Decision = { actor: actorOf(values), ...(values.reason && { reason: values.reason }) }
  return withReach(async (reach) => {
    const planned = await find(reach, choice)
    if (values['dry-run']) return printPlan(action, planned, values)
    const done = await actOnAll(reach, action, planned, decision, rate)
    if (done.interrupted) return 130
    const waits = action !== 'discard' && !values['no-wait']
    const ended = waits ? await outcomes(reach, done.applied, timeoutMs) : done.applied
    return printOutcome(action, planned, ended, waits, values)
  })
}

/** Groups and filters that the options say. */
interface Choice {
  groups: readonly Owner[]
  filter: LetterFilter
  ids: readonly { group: Owner; id: bigint }[] | undefined
  limit: number | null
}

function choose(values: Values, ids: readonly string[], defaultStates: readonly LetterState[]): Choice {
  const { topic, type, key, error } = values
  const before = ago('older-than', values['older-than'])
  const after = ago('newer-than', values['newer-than'])
  return {
    groups: values.group === undefined ? owners : [parseGroup(values.group)],
    ids: ids.length === 0 ? undefined : ids.map((id) => parseId(id, values.group)),
    limit: positive('limit', values.limit) ?? null,
    filter: {
      states: parseStates(values.state) ?? defaultStates,
      ...(topic !== undefined && { topic }),
      ...(type !== undefined && { type }),
      ...(key !== undefined && { key }),
      ...(error !== undefined && { error }),
      ...(before && { parkedBefore: before }),
      ...(after && { parkedAfter: after }),
    },
  }
}

function parseGroup(text: string): Owner {
  const group = owners.find((owner) => owner === text)
  if (!group) throw new UsageError(`--group ${text}: there are ${owners.join(', ')}`)
  return group
}

function parseId(text: string, group: string | undefined): { group: Owner; id: bigint } {
  const [, named, number] = /^(?:([a-z]+)\/)?(\d{1,18})$/.exec(text) ?? []
  if (number === undefined) throw new UsageError(`${text} is no ID: list prints them, such as order/12`)
  const owner = named ?? group
  if (owner === undefined) throw new UsageError(`${text} of which group? Write it as order/${text}, or give --group`)
  return { group: parseGroup(owner), id: BigInt(number) }
}

function parseStates(text: string | undefined): LetterState[] | undefined {
  if (text === undefined) return undefined
  if (text === 'all') return [...letterStates]
  return text.split(',').map((name) => {
    const state = letterStates.find((one) => one === name.trim())
    if (!state) throw new UsageError(`--state ${name}: there are ${letterStates.join(', ')} and all`)
    return state
  })
}

const unitsMs: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function ago(name: string, text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  const [, number, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (number === undefined || unit === undefined)
    throw new UsageError(`--${name} takes a time such as 90s, 15m, 2h or 3d`)
  return new Date(Date.now() - Number(number) * (unitsMs[unit] ?? 0))
}

function positive(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError(`--${name} takes a whole number above 0`)
  return Number(text)
}

function actorOf({ actor = process.env.SHOP_ACTOR }: Values): string {
  if (actor?.trim()) return actor
  try {
    return userInfo().username
  } catch {
    throw new UsageError('this system does not know its user: say who you are with --actor or SHOP_ACTOR')
  }
}

/** Runs `work` on a group's database; one that does not answer is a {@link Refusal}. */
async function asking<R>(group: Owner, work: () => Promise<R>): Promise<R> {
  try {
    return await work()
  } catch (error) {
    if (!isUnavailable(error)) throw error
    throw new Refusal(`the database of ${group} does not answer now, try again: ${(error as Error).message}`)
  }
}

async function find(reach: Reach, { groups, filter, ids, limit }: Choice): Promise<Found[]> {
  const perGroup = groups.map(async (group) => {
    const own = ids?.filter((one) => one.group === group).map(({ id }) => id)
    if (own?.length === 0) return []
    const letters = await asking(group, () =>
      listLetters(reach.databases[group].query, { ...filter, ...(own && { ids: own }) }, limit),
    )
    return letters.map((letter) => ({ ...letter, group, ref: `${group}/${letter.id}` }))
  })
  return (await Promise.all(perGroup)).flat()
}

/** Steps of a fraction of a second with a rate, else of as many as one transaction takes well. */
export function stepOf(rate: number | undefined): { size: number; pauseMs: number } {
  if (rate === undefined) return { size: 500, pauseMs: 0 }
  const size = Math.max(1, Math.round(rate / 10))
  return { size, pauseMs: (size / rate) * 1_000 }
}

/** Does it step by step, telling how far it is; stops between two steps on Ctrl-C. */
async function actOnAll(
  reach: Reach,
  action: LetterAction,
  planned: readonly Found[],
  decision: Decision,
  rate: number | undefined,
): Promise<{ applied: Found[]; interrupted: boolean }> {
  const interrupt = new AbortController()
  const onInterrupt = () => interrupt.abort()
  process.once('SIGINT', onInterrupt)
  const { size, pauseMs } = stepOf(rate)
  const applied: Found[] = []
  try {
    for (const [group, ofGroup] of Map.groupBy(planned, (letter) => letter.group)) {
      for (let start = 0; start < ofGroup.length; start += size) {
        const step = ofGroup.slice(start, start + size)
        const ids = new Set(
          await asking(group, () =>
            actOnLetters(
              reach.databases[group],
              action,
              step.map(({ id }) => id),
              decision,
            ),
          ),
        )
        applied.push(...step.filter(({ id }) => ids.has(id)))
        tell(`${past[action]}: ${applied.length} of ${planned.length}`)
        if (pauseMs > 0) await delay(pauseMs, undefined, { signal: interrupt.signal }).catch(() => undefined)
        if (interrupt.signal.aborted) {
          tell(`Interrupted after ${applied.length} of ${planned.length}. The same command goes on with the others.`)
          return { applied, interrupted: true }
        }
      }
    }
  } finally {
    process.off('SIGINT', onInterrupt)
  }
  return { applied, interrupted: false }
}

const past: Record<LetterAction, string> = { retry: 'made due', redrive: 'redriven', discard: 'discarded' }

/** What became of messages, as soon as each is handled, dead or discarded, or when the time is over. */
async function outcomes(reach: Reach, letters: readonly Found[], timeoutMs: number): Promise<Found[]> {
  const deadline = Date.now() + timeoutMs
  const ended = new Map<string, Found>()
  let told = -1
  for (;;) {
    const open = letters.filter(({ ref }) => !ended.has(ref))
    const now: Found[] = []
    for (const [group, ofGroup] of Map.groupBy(open, (letter) => letter.group)) {
      const ids = ofGroup.map(({ id }) => ({ group, id }))
      now.push(...(await find(reach, { groups: [group], ids, filter: {}, limit: null })))
    }
    const isOpen = ({ state }: Found) => state === 'waiting' || state === 'behind'
    for (const letter of now) if (!isOpen(letter)) ended.set(letter.ref, letter)
    if (ended.size !== told) tell(`ended: ${ended.size} of ${letters.length}`)
    told = ended.size
    if (ended.size === letters.length || Date.now() > deadline) return [...ended.values(), ...now.filter(isOpen)]
    await delay(250)
  }
}

const tell = (line: string) => process.stderr.write(`${line}\n`)

const many = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`

function printJson(value: unknown): void {
  const replaced = (_: string, held: unknown) => {
    if (typeof held === 'bigint') return held.toString()
    if (isStoredBuffer(held)) return { base64: Buffer.from(held.data).toString('base64') }
    return held
  }
  console.log(JSON.stringify(value, replaced, 2))
}

/** Buffers have become this before a replacer sees them. */
const isStoredBuffer = (held: unknown): held is { type: 'Buffer'; data: number[] } =>
  typeof held === 'object' && held !== null && 'type' in held && held.type === 'Buffer' && 'data' in held

function printTable(found: readonly Found[]): void {
  const rows = found.map((letter) => [
    letter.ref,
    letter.state,
    letter.type ?? '(no type)',
    letter.key ?? '(no key)',
    `${letter.attempts}`,
    `${letter.followers}`,
    letter.parkedAt.toISOString(),
    firstLine(letter.error, 100),
  ])
  const table = [['ID', 'STATE', 'TYPE', 'KEY', 'TRIED', 'BEHIND', 'PARKED', 'ERROR'], ...rows]
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  for (const row of table)
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
}

/** For a terminal: what is no printable character is not sent to it. */
const firstLine = (text: string | null, length: number) =>
  printable((text ?? '').split('\n', 1)[0] ?? '').slice(0, length)
const printable = (text: string) => text.replaceAll(/[^\P{Cc}\n\t]/gu, '\ufffd')

function printDetails(ref: string, letter: LetterDetails): void {
  const { state, topic, partition, offset, key, type, followers, payload, bytes } = letter
  const lines = [
    `${ref}  ${type ?? '(no type)'} of ${key ?? '(no key)'} from ${topic}/${partition} at ${offset}`,
    `${state}${letter.endedAt ? ` since ${letter.endedAt.toISOString()}` : ''}, parked ${letter.parkedAt.toISOString()}${nextOf(letter)}`,
    ...(followers > 0 ? [`${many(followers, 'later message')} of its key wait behind it`] : []),
    '',
    'Headers',
    ...Object.entries(letter.headers).map(([name, held]) => `  ${name}: ${headerText(held)}`),
    '',
    ...('unreadable' in payload
      ? [`Payload: cannot be read: ${payload.unreadable}`, ...rawBytes(bytes)]
      : [`Payload: ${payload.event} by schema ${payload.schemaId}`, ...indented(jsonText(payload.data))]),
    '',
    letter.failures.length === 0 ? 'Attempts: none failed' : 'Attempts that failed',
    ...letter.failures.flatMap(({ number, at, error }) => [
      `  ${number}. ${at.toISOString()}`,
      ...indented(error, '     '),
    ]),
    '',
    letter.actions.length === 0 ? 'Nobody has done anything about it' : 'What was done about it',
    ...letter.actions.map(
      ({ action, actor, reason, at }) => `  ${at.toISOString()}  ${action} by ${actor}${reason ? `: ${reason}` : ''}`,
    ),
    ...hints(ref, state),
  ]
  console.log(printable(lines.join('\n')))
}

function nextOf({ nextAttemptAt, waitsForSchema }: LetterDetails): string {
  const schema = waitsForSchema === null ? '' : `, waits for schema ${waitsForSchema}`
  return nextAttemptAt === null ? schema : `${schema}, next attempt ${nextAttemptAt.toISOString()}`
}

const hints = (ref: string, state: LetterState) =>
  state === 'dead'
    ? [
        '',
        'Once its cause is mended:  npm run shop -- dead-letters redrive ' + ref,
        `To go on without it:       npm run shop -- dead-letters discard ${ref} --reason '…'`,
      ]
    : []

const jsonText = (value: unknown) =>
  JSON.stringify(value, (_, held) => (typeof held === 'bigint' ? held.toString() : held), 2)
const indented = (text: string, by = '  ') => text.split('\n').map((line) => by + line)
const headerText = (held: string | Buffer) => (typeof held === 'string' ? held : `base64 ${held.toString('base64')}`)

const hexLineBytes = 16
const hexLimitBytes = 512

/** The beginning in hexadecimal, as it is read, and all of it in base64, as it is carried elsewhere. */
function rawBytes(bytes: Buffer | null): string[] {
  if (bytes === null) return []
  const shown = bytes.subarray(0, hexLimitBytes)
  const lines = Array.from({ length: Math.ceil(shown.length / hexLineBytes) }, (_, n) => {
    const line = shown.subarray(n * hexLineBytes, (n + 1) * hexLineBytes)
    const text = line.toString('latin1').replaceAll(/[^\x20-\x7e]/g, '.')
    return `  ${(n * hexLineBytes).toString(16).padStart(6, '0')}  ${(line.toString('hex').match(/../g) ?? []).join(' ').padEnd(hexLineBytes * 3)} ${text}`
  })
  return [`Bytes: ${bytes.length}`, ...lines, `Base64: ${bytes.toString('base64')}`]
}

function printPlan(action: LetterAction, planned: readonly Found[], { json }: Values): number {
  const keys = Map.groupBy(planned, ({ group, topic, key }) => `${group}\n${topic}\n${key}`)
  const released = [...keys.values()].reduce((sum, ofKey) => sum + releasedBy(ofKey), 0)
  if (json) {
    printJson({ action, messages: planned, keys: keys.size, followers: released })
    return 0
  }
  planned.forEach(({ ref, type, key, followers, error }, n) => {
    const behind = followers > 0 ? `, ${followers} behind it` : ''
    console.log(
      printable(`${n + 1}. ${ref}  ${type ?? '(no type)'} of ${key ?? '(no key)'}${behind}  ${firstLine(error, 80)}`),
    )
  })
  const what = `${many(planned.length, 'message')} of ${many(keys.size, 'key')}`
  console.log(`${what} would be ${past[action]}, in this order; ${many(released, 'message')} behind them would follow.`)
  console.log('Nothing was changed.')
  return 0
}

/** How many of a key follow its first planned message, without the planned ones themselves. */
const releasedBy = (ofKey: readonly Found[]) =>
  Math.max(
    0,
    Math.max(...ofKey.map(({ followers }) => followers)) - (ofKey.filter(({ state }) => state !== 'behind').length - 1),
  )

function printOutcome(
  action: LetterAction,
  planned: readonly Found[],
  ended: readonly Found[],
  waited: boolean,
  { json }: Values,
): number {
  const left = planned.length - ended.length
  const notHandled = waited ? ended.filter(({ state }) => state !== 'handled') : []
  if (json) {
    printJson({ action, applied: ended.length, leftOut: left, messages: ended })
    return notHandled.length > 0 ? 1 : 0
  }
  console.log(`${many(ended.length, 'message')} ${past[action]}.`)
  if (left > 0) console.log(`${left} left out: being tried at the moment, or no longer in that state.`)
  if (!waited) return 0
  const counts = Map.groupBy(ended, ({ state }) => (state === 'dead' ? 'dead again' : state))
  for (const [state, ofState] of counts) console.log(`  ${state}: ${ofState.length}`)
  for (const { ref, key, state, error, nextAttemptAt } of notHandled) {
    const next = nextAttemptAt ? `, next attempt ${nextAttemptAt.toISOString()}` : ''
    console.log(printable(`${ref} of ${key ?? '(no key)'} is ${state}${next}: ${firstLine(error, 200)}`))
  }
  return notHandled.length > 0 ? 1 : 0
}
