/** `npm run shop -- dead-letters`: the retry queue and the garbage queue of every group, for people. */
import { parseArgs } from 'node:util'
import { isUnavailable } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import {
  actOnLetters,
  type DecidedBy,
  inboundName,
  inboxWindowDays,
  type LetterAction,
  type LetterFilter,
  type LetterState,
  letterStates,
  listLetters,
  mayHaveTakenEffect,
  planFor,
  showLetter,
  statesFor,
} from '@shopstream/messaging/operations'
import { parseTime, plural, timeHelp, toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { untilInterrupted } from '../terminal/repeat.ts'
import { actorOf } from './actor.ts'
import { reasonOf } from './answers.ts'
import { type BridgeNote, bridgeService, parkedTopic, readBridgeNotes } from './bridges.ts'
import {
  detailLines,
  doubtfulLines,
  type Found,
  isInbound,
  isSettled,
  listLines,
  outcomeLines,
  outcomeOf,
  type Planned,
  past,
  planLines,
  withAbsence,
} from './dead-letter-lines.ts'
import { claimsOf, createReader, personalHelp } from './read-event.ts'
import { type Owner, owners, type Reach, reachHelp, withReach } from './shop-access.ts'

export const usage = `Usage: npm run shop -- dead-letters COMMAND [ID...] [filters] [options]

  list        messages that failed, with their error and how many wait behind them
  show ID     payload, headers, every attempt with its error, what was done about it; the bytes if they cannot be read
  retry       tries waiting ones now, ahead of their time
  redrive     lets dead ones be tried anew, their attempts counted from the beginning
  discard     gives up dead ones for good; what waits behind them goes on

ID is as list prints it, such as order/12, or 12 with --group order.

Filters, which all have to hold
  --id ID               the same as ID; may be given several times
  --group NAME          ${owners.join(', ')}; default: all
  --topic NAME          also what bridges have parked of it; ${inboundName}: what came in by one and does not fit
  --bridge NAME         parked by this bridge
  --type EVENT, --key KEY
  --error TEXT          part of the error, in any case
  --older-than TIME     parked before then
  --newer-than TIME     parked since then
  --state STATES        ${letterStates.join(', ')}, separated by commas, or all
                        default: dead,waiting to list, dead to redrive and to discard, waiting to retry; with ID any
  --limit N             the first N of each group, those first that were never redriven; list without --json: default 100

${timeHelp}

Options
  --json                prints JSON
  ${personalHelp}
retry, redrive and discard need an ID, --key or --all, which is all that the other filters match. redrive leaves out those
that may have taken effect before (older than the ${inboxWindowDays} days that an inbox remembers), unless named by ID. They take
  --dry-run             only print what would happen, in which order, to which keys
  --reason TEXT         kept with each message; discard needs one, but for --dry-run
  --actor NAME          who decides; default: SHOP_ACTOR, else the user of this system
  --rate N              messages a second; what waits behind them follows at the service's own speed
  --no-wait             do not wait for what becomes of them
  --timeout SECONDS     wait no longer than this; default: 300

The service's own process handles them, in the order of their key. Who did what, when and why is kept with each message.
A command that was interrupted is repeated as it was: it goes on with those that it has not come to.
Exit code 1: one is dead again, or still waiting; 130: interrupted.

${reachHelp}`

const options = {
  id: { type: 'string', multiple: true },
  group: { type: 'string' },
  topic: { type: 'string' },
  bridge: { type: 'string' },
  type: { type: 'string' },
  key: { type: 'string' },
  error: { type: 'string' },
  'older-than': { type: 'string' },
  'newer-than': { type: 'string' },
  state: { type: 'string' },
  limit: { type: 'string' },
  json: { type: 'boolean' },
  personal: { type: 'boolean' },
  all: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  reason: { type: 'string' },
  actor: { type: 'string' },
  rate: { type: 'string' },
  'no-wait': { type: 'boolean' },
  timeout: { type: 'string' },
} as const

type Values = ReturnType<typeof parseArgs<{ options: typeof options; args: string[] }>>['values']

const commands: Record<string, (values: Values) => Promise<number>> = {
  list,
  show,
  retry: (values) => act('retry', values),
  redrive: (values) => act('redrive', values),
  discard: (values) => act('discard', values),
}

/** See {@link usage}. */
export async function run([name = '', ...args]: string[]): Promise<number> {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (!command) throw new UsageError(`${name === '' ? 'Which command?' : `There is no command ${name}.`}`)
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  const ids = [...positionals, ...(values.id ?? [])]
  return command({ ...values, ...(ids.length > 0 && { id: ids }) })
}

function say({ json }: Values, told: unknown, lines: () => string[]): void {
  if (json) console.log(toJson(told, 2))
  else print(lines().join('\n'))
}

/** Of each group, that list shows to people; a topic full of garbage parks thousands. Programs get all. */
const usualLimit = 100

async function list(values: Values): Promise<number> {
  const choice = choose(values, ['dead', 'waiting'])
  return withReach(async (reach) => {
    const limit = choice.limit ?? (values.json ? Number.MAX_SAFE_INTEGER - 1 : usualLimit)
    const found = Map.groupBy(await find(reach, { ...choice, limit: limit + 1 }), ({ group }) => group)
    const more = [...found].flatMap(([group, letters]) => (letters.length > limit ? [group] : []))
    const chosen = [...found.values()].flatMap((letters) => letters.slice(0, limit))
    const shown = await Promise.all(chosen.map((letter) => (isInbound(letter) ? withClaims(reach, letter) : letter)))
    say(values, shown, () => listLines(shown))
    if (more.length > 0)
      console.error(`More than ${limit} of ${more.join(', ')}: --limit shows more, other options fewer`)
    return 0
  })
}

async function show(values: Values): Promise<number> {
  const [wanted, ...more] = choose(values, []).ids ?? []
  if (wanted === undefined || more.length > 0) throw new UsageError('show needs one ID, such as order/12')
  const { group, id } = wanted
  const ref = `${group}/${id}`
  return withReach(async (reach) => {
    const letter = await asking(group, () => showLetter(reach.databases[group].query, id))
    if (!letter) throw new Refusal(unknown(ref))
    const { topic, partition, offset, key, bytes: value, headers } = letter
    const message = { topic, partition, offset, key, value, headers }
    const {
      headers: texts,
      schemaId,
      data,
      problem,
      bytes,
      text,
    } = await createReader(reach.databases, values.personal)(message)
    const [known = letter] = withAbsence([letter], await bridgesOf(reach, [{ group }]))
    const details = { ref, group, ...known, headers: texts, schemaId, data, problem, bytes, text }
    if (isInbound(letter)) Object.assign(details, claimsOf(details))
    say(values, details, () => detailLines(details))
    return 0
  })
}

/** Of what came in by a bridge only its own words tell what it is to be. */
async function withClaims(reach: Reach, letter: Found): Promise<Found> {
  const details = await asking(letter.group, () => showLetter(reach.databases[letter.group].query, letter.id))
  if (!details) return letter
  return { ...letter, ...claimsOf(await createReader(reach.databases)({ ...details, value: details.bytes })) }
}

async function act(action: LetterAction, values: Values): Promise<number> {
  if (!values.id && values.key === undefined && !values.all)
    throw new UsageError(`${action} which? Give IDs, --key or --all (all that the other filters match)`)
  if (action === 'discard' && !values['dry-run'] && !values.reason?.trim())
    throw new UsageError('discard needs --reason')
  const choice = choose(values, action === 'retry' ? ['waiting'] : ['dead'])
  const unfit = values.state && choice.filter.states?.find((state) => !statesFor(action).includes(state))
  if (unfit) throw new UsageError(`${action} is for ${statesFor(action).join(', ')}, not for ${unfit}`)
  const rate = positive('rate', values.rate)
  const timeoutMs = (positive('timeout', values.timeout) ?? 300) * 1_000
  const decision: DecidedBy = { actor: actorOf(values.actor), ...(values.reason && { reason: values.reason }) }
  return withReach(async (reach) => {
    const found = await find(reach, choice)
    if (choice.ids) refuseUnfit(action, choice.ids, found)
    // Only whoever names a message has looked at it.
    const doubtful = action === 'redrive' && !choice.ids ? found.filter(mayHaveTakenEffect) : []
    const planned = found.filter((letter) => !doubtful.includes(letter))
    if (values['dry-run']) {
      const plans = await plan(reach, planned)
      const leftOut = doubtful.map(({ ref }) => ref)
      say(values, { action, dryRun: true, keys: plans, doubtful: leftOut }, () => [
        ...planLines(action, plans),
        ...doubtfulLines(leftOut),
      ])
      return 0
    }
    const applied = await actOnAll(reach, action, planned, decision, rate)
    const waits = action !== 'discard' && !values['no-wait'] && applied.length > 0
    const ended = waits ? await outcomes(reach, action, applied, timeoutMs) : applied
    const result = outcomeOf({
      action,
      planned,
      doubtful,
      ended,
      waited: waits,
      interrupted: untilInterrupted().aborted,
    })
    say(values, result, () => outcomeLines(result))
    return result.exitCode
  })
}

/** What the arguments choose. */
interface Choice {
  groups: readonly Owner[]
  filter: LetterFilter
  ids: readonly { group: Owner; id: bigint }[] | undefined
  limit: number | null
}

function choose(values: Values, defaultStates: readonly LetterState[]): Choice {
  const { bridge, type, key, error, group } = values
  const topic = parkedTopic(values.topic)
  const ids = values.id?.map((id) => parseId(id, group))
  const states = parseStates(values.state) ?? (ids ? undefined : defaultStates)
  const before = values['older-than']
  const after = values['newer-than']
  return {
    groups: group === undefined ? owners : [parseGroup(group)],
    ids,
    limit: positive('limit', values.limit) ?? null,
    filter: {
      ...(states && { states }),
      ...(topic !== undefined && { topic }),
      ...(bridge !== undefined && { bridge }),
      ...(type !== undefined && { type }),
      ...(key !== undefined && { key }),
      ...(error !== undefined && { error }),
      ...(before !== undefined && { parkedBefore: parseTime(before) }),
      ...(after !== undefined && { parkedAfter: parseTime(after) }),
    },
  }
}

function parseGroup(text: string): Owner {
  const group = owners.find((owner) => owner === text)
  if (!group) throw new UsageError(`There is no group ${text}: there are ${owners.join(', ')}`)
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
    if (!state) throw new UsageError(`There is no state ${name}: there are ${letterStates.join(', ')} and all`)
    return state
  })
}

function positive(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new UsageError(`--${name} takes a whole number above 0, not ${text}`)
  return Number(text)
}

/** Runs `work` on a group's database; one that does not answer is a {@link Refusal}. */
async function asking<R>(group: Owner, work: () => Promise<R>): Promise<R> {
  try {
    return await work()
  } catch (error) {
    if (!isUnavailable(error)) throw error
    throw new Refusal(`the database of ${group} does not answer now, try again: ${reasonOf(error)}`)
  }
}

async function find(reach: Reach, { groups, filter, ids, limit }: Choice): Promise<Found[]> {
  const perGroup = groups.map(async (group) => {
    const own = ids?.filter((one) => one.group === group).map(({ id }) => id)
    if (own?.length === 0) return []
    const { query } = reach.databases[group]
    const letters = await asking(group, () => listLetters(query, { ...filter, ...(own && { ids: own }) }, limit))
    return letters.map((letter) => ({ ref: `${group}/${letter.id}`, group, ...letter }))
  })
  return (await Promise.all(perGroup)).flat()
}

const unknown = (ref: string) => `There is no ${ref}, or it ended more than ${inboxWindowDays} days ago.`

/** Whoever names a message wants that one and no other. */
function refuseUnfit(action: LetterAction, ids: NonNullable<Choice['ids']>, planned: readonly Found[]): void {
  const known = new Map(planned.map((letter) => [letter.ref, letter]))
  const reasons = ids.flatMap(({ group, id }) => {
    const letter = known.get(`${group}/${id}`)
    if (!letter) return `${unknown(`${group}/${id}`)} Or another filter leaves it out.`
    return statesFor(action).includes(letter.state) ? [] : `${letter.ref} is ${letter.state}.`
  })
  if (reasons.length > 0)
    throw new Refusal(
      `${reasons.join('\n')}\n${action} is for messages that are ${statesFor(action).join(' or ')}. Nothing was changed.`,
    )
}

async function plan(reach: Reach, planned: readonly Found[]): Promise<Planned[]> {
  const perGroup = [...Map.groupBy(planned, ({ group }) => group)].map(async ([group, ofGroup]) => {
    const ids = ofGroup.map(({ id }) => id)
    const plans = await asking(group, () => planFor(reach.databases[group].query, ids))
    return plans.map((one) => ({ group, ...one }))
  })
  return (await Promise.all(perGroup)).flat()
}

/** Steps of a tenth of a second with a rate, else of as many as one transaction takes well. */
export function stepOf(rate: number | undefined): { size: number; pauseMs: number } {
  if (rate === undefined) return { size: 500, pauseMs: 0 }
  const size = Math.max(1, Math.floor(rate / 10))
  return { size, pauseMs: (size / rate) * 1_000 }
}

/** Does it step by step, telling how far it is; stops between two steps when interrupted. Returns what it applied to. */
async function actOnAll(
  reach: Reach,
  action: LetterAction,
  planned: readonly Found[],
  decision: DecidedBy,
  rate: number | undefined,
): Promise<Found[]> {
  const stop = untilInterrupted()
  const { size, pauseMs } = stepOf(rate)
  const applied: Found[] = []
  for (const [group, ofGroup] of Map.groupBy(planned, (letter) => letter.group)) {
    for (let start = 0; start < ofGroup.length && !stop.aborted; start += size) {
      const step = ofGroup.slice(start, start + size)
      const ids = step.map(({ id }) => id)
      const done = new Set(await asking(group, () => actOnLetters(reach.databases[group], action, ids, decision)))
      applied.push(...step.filter(({ id }) => done.has(id)))
      tell(`${past[action]}: ${applied.length} of ${planned.length}`)
      if (pauseMs > 0) await pause(pauseMs, stop)
    }
  }
  if (stop.aborted)
    tell(`Interrupted after ${plural(applied.length, 'message')}: the same command goes on with the others.`)
  return applied
}

/** What became of messages, as soon as that is known of each, or when the time is over or somebody interrupts. */
async function outcomes(
  reach: Reach,
  action: LetterAction,
  applied: readonly Found[],
  timeoutMs: number,
): Promise<Found[]> {
  const stop = AbortSignal.any([untilInterrupted(), AbortSignal.timeout(timeoutMs)])
  const before = new Map(applied.map((letter) => [letter.ref, letter]))
  const settled = new Map<string, Found>()
  let open = applied
  for (let told = -1; ; told = settled.size) {
    const begun = performance.now()
    const found = await find(reach, { groups: owners, filter: {}, ids: open, limit: null })
    const now = withAbsence(found, await bridgesOf(reach, found))
    open = now.filter((letter) => !isSettled(action, before.get(letter.ref) as Found, letter))
    const unsettled = new Set(open)
    for (const letter of now) if (!unsettled.has(letter)) settled.set(letter.ref, letter)
    if (settled.size !== told) tell(`known of: ${settled.size} of ${applied.length}`)
    if (open.length === 0 || stop.aborted) return [...settled.values(), ...open]
    await pause(Math.max(250, 4 * (performance.now() - begun)), stop) // many of them are not for looking at all the time
  }
}

/** How the bridges are, where one of these was parked by one. */
async function bridgesOf(reach: Reach, found: readonly Pick<Found, 'group'>[]): Promise<BridgeNote[]> {
  if (!found.some(({ group }) => group === bridgeService)) return []
  return asking(bridgeService, () => readBridgeNotes(reach.databases[bridgeService]))
}

const tell = (line: string) => process.stderr.write(`${line}\n`)
