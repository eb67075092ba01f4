/** `npm run shop -- unreadable`: what no consumer can read and what waits for it, for people. */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { sql } from '@shopstream/database'
import { pause } from '@shopstream/messaging'
import { type PartitionPosition, stepOver } from '@shopstream/messaging/operations'
import { good, shop, toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { untilInterrupted } from '../terminal/repeat.ts'
import { actorOf } from './actor.ts'
import { ask, reasonOf } from './answers.ts'
import { readGroups } from './groups.ts'
import { type Owner, ownerNamed, owners, type Reach, reachHelp, withReach } from './shop-access.ts'
import { detailLines, listLines } from './unreadable-lines.ts'
import {
  allMet,
  decisionInWords,
  type Met,
  placeInWords,
  type Stretch,
  type StretchPlace,
  showCommand,
  stretchesOf,
} from './unreadable-stretches.ts'

export const usage = `Usage: npm run shop -- unreadable COMMAND [options]

What stands in a topic and cannot be read by any means: bytes that no decoder takes, more of them than
KAFKA_BATCH_LIMIT_BYTES when they are unpacked, a message over 4 MiB. Its partition waits in each group that meets it,
until somebody decides that it may be stepped over; everything else goes on.

  list              all that services stand before: place, size, since when, why
  show ID|PLACE     what is known of one, the beginning of its bytes
  step-over PLACE   lets every group that stands there go on behind it; its bytes, who decided it and why are kept

PLACE is TOPIC/PARTITION@OFFSET, such as shop.order.v1/3@12; ID is as list prints it, such as order/1.

Options
  --all             list: those too that were stepped over, were read after all, or that the topic has forgotten
  --json            list, show: prints JSON; show's has the bytes, in base64
  --out FILE        show: writes the bytes to a file, as they came: record batches of Kafka, as in a segment of its log
  --reason TEXT     step-over needs one; it is kept
  --actor NAME      who decides; default: SHOP_ACTOR, else the user of this system
  --service NAME    step-over: of this service alone; ${owners.join(', ')}
  --no-wait         step-over: do not wait until they have gone on

How to look, decide, and get back what was in it: docs/runbooks/unreadable-records.md
Exit code 0. 1: there is no such thing, a database cannot be asked, or a group has not gone on within 30 s.
2: arguments that make no sense.

${reachHelp}`

const options = {
  all: { type: 'boolean' },
  json: { type: 'boolean' },
  out: { type: 'string' },
  reason: { type: 'string' },
  actor: { type: 'string' },
  service: { type: 'string' },
  'no-wait': { type: 'boolean' },
} as const

type Values = ReturnType<typeof parseArgs<{ options: typeof options; args: string[] }>>['values']

interface Subcommand {
  run(values: Values, target: string | undefined): Promise<number>
  takes: readonly (keyof Values)[]
}

const subcommands: Record<string, Subcommand> = {
  list: { run: list, takes: ['all', 'json'] },
  show: { run: show, takes: ['json', 'out'] },
  'step-over': { run: stepOverAll, takes: ['reason', 'actor', 'service', 'no-wait'] },
}

/** See {@link usage}. */
export async function run([name = '', ...args]: string[]): Promise<number> {
  const subcommand = Object.hasOwn(subcommands, name) ? subcommands[name] : undefined
  if (!subcommand) throw new UsageError(`${name === '' ? 'Which command?' : `There is no command ${name}.`}`)
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  const unfit = (Object.keys(values) as (keyof Values)[]).find((option) => !subcommand.takes.includes(option))
  if (unfit) throw new UsageError(`${name} takes no --${unfit}.`)
  if (positionals.length > (name === 'list' ? 0 : 1)) throw new UsageError(`${name} takes no ${positionals.at(-1)}.`)
  return subcommand.run(values, positionals[0])
}

async function list(values: Values): Promise<number> {
  return withReach(async (reach) => {
    const { met, notAsked } = await allMet(reach)
    const found = met.filter(({ state }) => values.all || state === 'stands' || state === 'not met')
    if (values.json) console.log(toJson(found, 2))
    else print(listLines(stretchesOf(found)).join('\n'))
    for (const what of notAsked) console.error(`Not all could be asked: ${what}`)
    return notAsked.length > 0 ? 1 : 0
  })
}

async function show(values: Values, target: string | undefined): Promise<number> {
  if (target === undefined) throw new UsageError('show needs an ID or a PLACE, such as order/1 or shop.order.v1/3@12')
  const wanted = parseTarget(target)
  return withReach(async (reach) => {
    const { met, notAsked } = await allMet(reach)
    const found = met.findLast((one) => wanted(one))
    if (!found) throw new Refusal(nothingAt(target, notAsked))
    const bytes = await bytesOf(reach, found)
    const ofStretch = stretchesOf(met.filter((one) => isSame(one, found)))[0] as Stretch
    if (values.out !== undefined) saveTo(values.out, bytes)
    if (values.json) console.log(toJson({ ...ofStretch, bytes }, 2))
    else print(detailLines(ofStretch, bytes, { savedTo: values.out }).join('\n'))
    return 0
  })
}

const isSame = (one: Met, other: Met) =>
  one.topic === other.topic &&
  one.partition === other.partition &&
  one.lastOffset === other.lastOffset &&
  one.size === other.size

async function bytesOf({ databases }: Reach, { service, id }: Met): Promise<Buffer> {
  const { rows } = await sql<{ bytes: Buffer }>`select bytes from unreadable_batch where id = ${id}`.execute(
    databases[service].query,
  )
  return rows[0]?.bytes ?? Buffer.alloc(0)
}

function saveTo(file: string, bytes: Buffer): void {
  try {
    writeFileSync(file, bytes, { flag: 'wx' })
  } catch (error) {
    throw new Refusal(`the bytes cannot be written to ${file}: ${reasonOf(error)}`)
  }
}

async function stepOverAll(values: Values, target: string | undefined): Promise<number> {
  const place = target === undefined ? undefined : parsePlace(target)
  if (!place) throw new UsageError('step-over needs a PLACE, as list prints it, such as shop.order.v1/3@12')
  const reason = values.reason?.trim()
  if (!reason) throw new UsageError('step-over needs --reason: it is kept with what is stepped over')
  const actor = actorOf(values.actor)
  const services = values.service === undefined ? owners : [ownerNamed(values.service)]
  return withReach(async (reach) => {
    const before = await allMet(reach)
    const mayBe = before.met.filter((one) => services.includes(one.service) && isAt(one, place))
    const applied: Met[] = []
    for (const service of new Set(mayBe.map((one) => one.service))) {
      const rows = await stepOver(reach.databases[service].query, { ...place, actor, reason })
      const ids = new Set(rows.map(({ id }) => id))
      applied.push(...mayBe.filter((one) => one.service === service && ids.has(one.id)))
    }
    const notAsked = before.notAsked.filter((text) => services.some((service) => text.includes(` ${service} `)))
    if (applied.length === 0) throw new Refusal(whyNothing(target as string, mayBe, before.met, notAsked))
    for (const one of applied) print(good(`${one.service} steps over ${placeInWords(one)}, for ${actor}: ${reason}`))
    const left = [
      ...notAsked.map((what) => `not done: ${what}`),
      ...(await notMetYet(reach, applied, before.met, services)),
    ]
    const waiting = values['no-wait'] ? [] : await untilPassed(reach, applied)
    const standing = values['no-wait'] ? [] : await standingBehind(reach, applied)
    if (!values['no-wait'] && waiting.length === 0) {
      const gone = [...new Set(applied.map(({ service }) => service))]
      print(good(`${gone.join(' and ')} ${gone.length > 1 ? 'have' : 'has'} gone on behind it`))
    }
    for (const line of [...left, ...waiting, ...standing]) print(line)
    return notAsked.length > 0 || waiting.length > 0 ? 1 : 0
  })
}

const placePattern = /^([A-Za-z0-9._-]+)\/(\d{1,9})@(\d{1,18})(?:-\d{1,18})?$/

function parsePlace(text: string): { topic: string; partition: number; offset: bigint } | undefined {
  const [, topic, partition, offset] = placePattern.exec(text) ?? []
  return topic && partition && offset ? { topic, partition: Number(partition), offset: BigInt(offset) } : undefined
}

const isAt = (one: StretchPlace, { topic, partition, offset }: { topic: string; partition: number; offset: bigint }) =>
  one.topic === topic && one.partition === partition && one.firstOffset <= offset && offset <= one.lastOffset

/** Whether it is the one that was asked for. Throws a UsageError for what is neither ID nor PLACE. */
function parseTarget(text: string): (one: Met) => boolean {
  const place = parsePlace(text)
  if (place) return (one) => isAt(one, place)
  if (!owners.some((owner) => text.startsWith(`${owner}/`)))
    throw new UsageError(`${text} is neither an ID nor a PLACE, such as order/1 or shop.order.v1/3@12`)
  return ({ ref }) => ref === text
}

const nothingAt = (target: string, notAsked: readonly string[]) =>
  [
    `No service has met anything unreadable at ${target}; ${shop('unreadable list --all')} shows where they have.`,
    ...notAsked,
  ].join('\n')

/** Why stepping over applied to nothing, and what to do instead. */
function whyNothing(target: string, there: readonly Met[], all: readonly Met[], notAsked: readonly string[]): string {
  const [decided] = there
  if (decided) return `Nothing was changed: ${decided.service} ${decisionInWords(decided) ?? 'no longer stands there'}.`
  const place = parsePlace(target)
  const elsewhere = place ? all.filter((one) => one.state === 'stands' && isAt(one, place)) : []
  if (elsewhere.length > 0)
    return `Nothing was changed: ${servicesOf(elsewhere)} stand there, not the service of --service.`
  const others = all.filter(({ steppedOverAt }) => steppedOverAt === null).map(placeInWords)
  const instead = others.length > 0 ? ` They stand before ${[...new Set(others)].join(', ')}.` : ''
  return `Nothing was changed. ${nothingAt(target, notAsked)}${instead}`
}

/** Groups that have the stretch before them, and will stand there as well. */
async function notMetYet(
  reach: Reach,
  applied: readonly Met[],
  met: readonly Met[],
  services: readonly Owner[],
): Promise<string[]> {
  const [stretch] = applied as [Met, ...Met[]]
  const { topic, partition, lastOffset } = stretch
  const others = (await readGroups()).filter(
    ({ group, topics }) =>
      services.includes(group) &&
      topics.includes(topic) &&
      !met.some((one) => one.service === group && isSame(one, stretch)),
  )
  const perGroup = others.map(async ({ group }) => {
    const position = await positionOf(reach.bus, { service: group, topic, partition })
    if (position && position.done > lastOffset) return []
    return [`${group} has not come to it yet, and will stand there: run the same again when ${shop('status')} says so.`]
  })
  return (await Promise.all(perGroup)).flat()
}

const servicesOf = (met: readonly Met[]) => [...new Set(met.map(({ service }) => service))].join(', ')

/** A consumer reaches the messages after it within this time. */
const comesWithinMs = 3_000

/** Groups that stand in the same partition again, behind what they have stepped over: foreign producers write more than one. */
async function standingBehind(reach: Reach, applied: readonly Met[]): Promise<string[]> {
  const stop = AbortSignal.any([untilInterrupted(), AbortSignal.timeout(comesWithinMs)])
  for (;;) {
    const { met } = await allMet(reach)
    const standing = met.filter((one) => one.state === 'stands' && applied.some((passed) => isBehind(one, passed)))
    const moving = applied.filter((passed) => !standing.some((one) => isBehind(one, passed)))
    if (stop.aborted || (await areAtEnd(reach.bus, moving)))
      return standing.map((one) => `${one.service} stands again, before ${placeInWords(one)}: ${showCommand(one)}`)
    await pause(250, stop)
  }
}

const isBehind = (one: Met, { service, topic, partition, lastOffset }: Met) =>
  one.service === service && one.topic === topic && one.partition === partition && one.firstOffset > lastOffset

async function areAtEnd(bus: Reach['bus'], applied: readonly Met[]): Promise<boolean> {
  const answers = await Promise.all(
    applied.map(async (met) => {
      const position = await positionOf(bus, met)
      return position !== undefined && position.done >= position.stableEnd
    }),
  )
  return answers.every(Boolean)
}

const passedWithinMs = 30_000

/** Waits until the groups have gone on; tells of those that have not. */
async function untilPassed({ bus }: Reach, applied: readonly Met[]): Promise<string[]> {
  const stop = AbortSignal.any([untilInterrupted(), AbortSignal.timeout(passedWithinMs)])
  let left = applied
  for (;;) {
    const passed = await Promise.all(left.map((one) => hasPassed(bus, one)))
    left = left.filter((_, n) => !passed[n])
    if (left.length === 0 || stop.aborted) break
    await pause(500, stop)
  }
  return left.map(
    ({ service }) =>
      `${service} has not gone on yet: it does so when it runs; ${shop('status')} shows whether it does.`,
  )
}

async function hasPassed(bus: Reach['bus'], met: Met): Promise<boolean> {
  const position = await positionOf(bus, met)
  return position !== undefined && position.done > met.lastOffset
}

/** Where a service's group stands; undefined when Kafka cannot be asked. */
async function positionOf(
  bus: Reach['bus'],
  { service, topic, partition }: Pick<Met, 'service' | 'topic' | 'partition'>,
): Promise<PartitionPosition | undefined> {
  const { answer } = await ask('Kafka', () => bus.positions(service, [topic]))
  return answer?.find((one) => one.partition === partition)
}
