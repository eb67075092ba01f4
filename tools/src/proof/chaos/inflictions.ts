import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { openSession } from '@shopstream/database'
import { compactedTopics, type IncomingMessage, type OutgoingMessage } from '@shopstream/messaging/operations'
import { eventually, type MailTrouble, type TcpProxy } from '@shopstream/testing'
import { treeOf } from '../../bench/measure.ts'
import type { ControlledServer } from '../../local/kafka.ts'
import { type ServiceName, serviceNames } from '../../local/services.ts'
import type { SupervisedService } from '../../local/supervisor.ts'
import { type Owner, owners } from '../../operations/shop-access.ts'
import type { LinkName } from './network-links.ts'
import { thisVersion, type Version } from './previous-version.ts'
import type { PlannedFault, Schedulable } from './schedule.ts'
import type { Arena } from './shop-under-chaos.ts'

export interface FaultSurroundings {
  arena: Arena
  /** What runs beside a service for a while. */
  previous: Version
  /** Topics by consumer group. */
  consumed: Readonly<Record<Owner, readonly string[]>>
}

/**
 * A fault of one kind, for as long as it lasts. Resolves when it is healed. Throws when it could not be brought about, and
 * is then tried again.
 */
type Inflict = (around: FaultSurroundings, fault: PlannedFault, healed: Promise<void>) => Promise<void>

export interface FaultKind extends Schedulable {
  about: string
  inflict: Inflict
}

const processOf = ({ shop, smtp }: Arena, name: string): SupervisedService =>
  name === 'smtp' ? smtp : (shop.services[name as Owner] as SupervisedService)

export type Row = Omit<FaultKind, 'occupies'> & Partial<Pick<FaultKind, 'occupies'>>

export const kill: Inflict = async ({ arena }, { target }) => {
  pidOf(arena, target)
  processOf(arena, target).kill('SIGKILL')
}
export const stop: Inflict = ({ arena }, { target }, healed) => paused([pidOf(arena, target)], healed)

/** Rolls each service back, even if another is not ready; throws the first error. */
export async function rolledBack(arena: Arena): Promise<void> {
  const failures: unknown[] = []
  for (const service of serviceNames) await rolled(arena, service, thisVersion).catch((error) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

/** Faults beside it may keep it from being ready at once. */
export async function rolled(arena: Arena, name: ServiceName, version: Version): Promise<void> {
  const service = processOf(arena, name)
  const before = service.pid // none while another fault has it started again
  arena.roll(name, version)
  const isAnother = async () => service.pid !== undefined && service.pid !== before && service.ready
  await eventually(`${name} of ${version.name} to be ready`, isAnother, { timeoutMs: 60_000 })
}

/** A stopped consumer has left its group after 6 s, and after 15 s where the group was just being arranged. */
const sessionEndMs = 7_000

/** Lets a group start over from the beginning once it has no members, topic by topic. */
export async function rewound({ reach: { bus } }: Arena, group: string, topics: readonly string[], withinMs: number) {
  const deadline = performance.now() + withinMs
  await delay(sessionEndMs)
  for (const topic of topics) {
    await eventually(`group ${group} to start over in ${topic}`, () => bus.rewind(group, [topic]).then(() => true), {
      timeoutMs: Math.max(0, deadline - performance.now()),
      everyMs: 500,
    })
  }
}

export function pidOf(arena: Arena, name: string): number {
  const { pid } = processOf(arena, name)
  if (pid === undefined) throw new Error('it is not running')
  return pid
}

export async function paused(pids: number[], healed: Promise<void>): Promise<void> {
  if (pids.length === 0) throw new Error('it is not running')
  for (const pid of pids) signal(pid, 'SIGSTOP')
  await healed
  for (const pid of pids) signal(pid, 'SIGCONT')
}

export async function killed(server: ControlledServer, healed: Promise<void>): Promise<void> {
  await server.kill()
  await healed
  // Once more, as the shop's own watch does: on a starved machine a Kafka was stuck in its start.
  await server.restart().catch(() => server.restart())
}

export async function disturbed({ links }: Arena, name: string, how: (link: TcpProxy) => void, healed: Promise<void>) {
  const link = links[name as LinkName]
  // Otherwise nobody would notice services that bypass the link.
  if (link.connections === 0) throw new Error('nothing is connected through it')
  how(link)
  await healed
  link.heal()
}

export async function troubled(arena: Arena, trouble: MailTrouble, healed: Promise<void>): Promise<void> {
  arena.troubleMails(trouble)
  await healed
  arena.troubleMails(undefined)
}

const asSuperuser = (url: string, as: string) => openSession(url, as, { default_transaction_read_only: 'off' })
const databaseOf = ({ shop }: Arena, owner: Owner) => new URL(shop.databaseUrl(owner)).pathname.slice(1)

/** How long all sessions are on the server that takes no writes, before the other is promoted. */
const demotedMs = 2_000
/** An unused session ends after 30 s; a service that is stopped meanwhile has its sessions for 20 s more. */
const leftBehindMs = 90_000

/**
 * The setting in the file reaches all living sessions, and a database's setting overrides it in later ones. So one
 * server plays both the one that was left behind and the promoted one. Heals only when no session is left behind.
 */
export async function failedOver(arena: Arena, healed: Promise<void>): Promise<void> {
  const session = await asSuperuser(arena.shop.postgres.url, 'failover')
  const [begun] = await session.query<{ at: Date }>('select clock_timestamp() as at')
  const ofEachDatabase = async (change: string) => {
    for (const owner of owners) await session.query(`alter database "${databaseOf(arena, owner)}" ${change}`)
  }
  const sessions = (what: string, since: '<' | '>=') =>
    session.query(
      `select ${what} from pg_stat_activity where application_name = any($1) and backend_start ${since} $2`,
      [owners.flatMap((owner) => [owner, `${owner}-relay`]), begun?.at],
    )
  try {
    await session.query('alter system set default_transaction_read_only = on')
    await session.query('select pg_reload_conf()')
    await Promise.race([healed, delay(demotedMs)])
    await ofEachDatabase('set default_transaction_read_only = off')
    await healed
    await eventually(
      'the services to leave the sessions that take no writes',
      async () => (await sessions('pid', '<')).length === 0,
      { timeoutMs: leftBehindMs, everyMs: 500 },
    )
  } finally {
    await ofEachDatabase('reset default_transaction_read_only')
    await session.query('alter system reset default_transaction_read_only')
    await session.query('select pg_reload_conf()')
    await sessions('pg_terminate_backend(pid)', '>=') // on these the file's setting would have no effect the next time
    await session.close()
  }
}

export async function dumped(arena: Arena, owner: Owner, healed: Promise<void>): Promise<void> {
  const url = new URL(arena.shop.postgres.url)
  url.pathname = databaseOf(arena, owner)
  const session = await asSuperuser(url.href, 'dump')
  try {
    await session.query('begin isolation level repeatable read read only')
    const tables = await session.query<{ name: string }>(
      `select format('%I.%I', schemaname, tablename) as name from pg_tables
       where schemaname not in ('pg_catalog', 'information_schema')`,
    )
    await session.query(`lock table ${tables.map(({ name }) => name).join(', ')} in access share mode`)
    await Promise.race([healed, once(session.ended, 'abort')]) // it ends with its server
  } finally {
    await session.close().catch(() => undefined)
  }
}

const burstMs = { stopped: 270, running: 30 }

export async function slowed(server: ControlledServer, healed: Promise<void>): Promise<void> {
  let over = false
  void healed.then(() => {
    over = true
  })
  while (!over) {
    await paused(treeOfServer(server), delay(burstMs.stopped))
    await delay(burstMs.running)
  }
}

/** The process of a server and all below it, itself first. */
export function treeOfServer({ pid }: ControlledServer): number[] {
  if (pid === undefined) return []
  return [pid, ...treeOf(pid).flatMap((one) => (one.pid === pid ? [] : [one.pid]))]
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // another fault has ended it
  }
}

const most = 200

/**
 * Publishes a stretch of a topic again, in its order. Of compacted topics only each key's last message: an older one
 * would become the key's last, which no producer does.
 */
export async function publishAgain({ reach: { bus } }: Arena, topic: string, force: number): Promise<boolean> {
  const all: IncomingMessage[] = []
  await bus.read({ topics: [topic], toEnd: true, handle: (messages) => void all.push(...messages) })
  const withValue = all.filter(({ value }) => value !== null)
  const last = new Map(withValue.map((message) => [message.key, message]))
  const chosen = compactedTopics.has(topic) ? [...last.values()] : withValue
  const from = Math.floor(force * Math.max(0, chosen.length - most))
  const again = chosen.slice(from, from + most).map(toOutgoing)
  if (again.length === 0) throw new Error('the topic is empty')
  return (await bus.publish(again)).some(({ error }) => !error)
}

const toOutgoing = ({ topic, partition, key, value, headers }: IncomingMessage): OutgoingMessage => ({
  topic,
  partition,
  key,
  value,
  headers,
})
