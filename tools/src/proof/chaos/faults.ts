import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { openSession, sql } from '@shopstream/database'
import { topics } from '@shopstream/events'
import { compactedTopics, type IncomingMessage, type OutgoingMessage } from '@shopstream/messaging'
import { eventually, type MailTrouble, type TcpProxy } from '@shopstream/testing'
import { treeOf } from '../../bench/measure.ts'
import type { ControlledServer } from '../../local/kafka.ts'
import { type ServiceName, serviceNames } from '../../local/services.ts'
import type { SupervisedService } from '../../local/supervisor.ts'
import { type Owner, owners } from '../../operations/reach.ts'
import { type Arena, type LinkName, linkNames } from './arena.ts'
import { thisVersion, type Version } from './previous.ts'
import type { PlannedFault, Schedulable } from './schedule.ts'

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

type Row = Omit<FaultKind, 'occupies'> & Partial<Pick<FaultKind, 'occupies'>>

const kill: Inflict = async ({ arena }, { target }) => {
  pidOf(arena, target)
  processOf(arena, target).kill('SIGKILL')
}
const stop: Inflict = ({ arena }, { target }, healed) => paused([pidOf(arena, target)], healed)

/** For so long the notification service waits for what the SMTP server says to a mail. */
export const mailAnswerSeconds = 15

const rows: Row[] = [
  {
    kind: 'kill-service',
    about: 'kill -9 of a service (its relay with it) or of the gateway',
    weight: 4,
    seconds: [0, 0],
    targets: serviceNames,
    inflict: kill,
  },
  {
    kind: 'stop-service',
    about: 'SIGSTOP of one of them, SIGCONT up to 20 s later: sessions end at 5 s and 6 s',
    weight: 4,
    seconds: [1, 20],
    targets: serviceNames,
    inflict: stop,
  },
  {
    kind: 'kill-mail',
    about: 'kill -9 of the SMTP server',
    weight: 1,
    seconds: [0, 0],
    targets: ['smtp'],
    inflict: kill,
  },
  {
    kind: 'stop-mail',
    about: 'SIGSTOP of the SMTP server',
    weight: 1,
    seconds: [1, 20],
    targets: ['smtp'],
    inflict: stop,
  },
  {
    kind: 'late-mail',
    about: 'the SMTP server answers mails after the final dot, and later than it is waited for',
    weight: 1,
    seconds: [3, 15],
    targets: ['smtp'],
    inflict: ({ arena }, _, healed) => troubled(arena, { how: 'late', lateMs: 1_200 * mailAnswerSeconds }, healed),
  },
  {
    kind: 'drop-mail',
    about: 'the SMTP server drops the connection after the final dot',
    weight: 1,
    seconds: [3, 15],
    targets: ['smtp'],
    inflict: ({ arena }, _, healed) => troubled(arena, { how: 'dropped' }, healed),
  },
  {
    kind: 'end-relay',
    about: "end of the session that holds a relay's lock",
    weight: 2,
    seconds: [0, 0],
    targets: owners,
    async inflict({ arena }, { target }) {
      const { rows } = await sql`
        select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${`${target}-relay`}
      `.execute(arena.reach.databases[target as Owner].query)
      if (rows.length === 0) throw new Error('it has no session')
    },
  },
  {
    kind: 'kill-broker',
    about: 'kill -9 of Kafka, started again after a while',
    weight: 1,
    seconds: [0, 8],
    targets: ['kafka'],
    inflict: ({ arena }, _, healed) => killed(arena.shop.kafka, healed),
  },
  {
    kind: 'stop-broker',
    about: 'SIGSTOP of Kafka',
    weight: 2,
    seconds: [1, 15],
    targets: ['kafka'],
    inflict: ({ arena }, _, healed) => paused(treeOfServer(arena.shop.kafka), healed),
  },
  {
    kind: 'slow-broker',
    about: 'Kafka gets a tenth of the time, in bursts, as on a disk that stalls',
    weight: 1,
    seconds: [3, 12],
    targets: ['kafka'],
    inflict: ({ arena }, _, healed) => slowed(arena.shop.kafka, healed),
  },
  {
    kind: 'kill-postgres',
    about: 'kill -9 of Postgres, started again after a while',
    weight: 1,
    seconds: [0, 6],
    targets: ['postgres'],
    inflict: ({ arena }, _, healed) => killed(arena.shop.postgres, healed),
  },
  {
    kind: 'kill-backend',
    about: 'kill -9 of one process of Postgres, which makes it recover as after a crash',
    weight: 1,
    seconds: [0, 0],
    targets: ['postgres'],
    async inflict({ arena }, { force }) {
      const backends = treeOfServer(arena.shop.postgres).slice(1)
      const pid = backends[Math.floor(force * backends.length)]
      if (pid === undefined) throw new Error('Postgres has no processes that this machine shows')
      process.kill(pid, 'SIGKILL')
    },
  },
  {
    kind: 'stop-postgres',
    about: 'SIGSTOP of all processes of Postgres',
    weight: 2,
    seconds: [1, 12],
    targets: ['postgres'],
    inflict: ({ arena }, _, healed) => paused(treeOfServer(arena.shop.postgres), healed),
  },
  {
    kind: 'slow-postgres',
    about: 'Postgres gets a tenth of the time, in bursts, as on a disk that stalls',
    weight: 1,
    seconds: [3, 12],
    targets: ['postgres'],
    inflict: ({ arena }, _, healed) => slowed(arena.shop.postgres, healed),
  },
  {
    kind: 'failover',
    about:
      'Postgres takes no writes; then new sessions do, as of a promoted standby, and those that were there never again',
    weight: 1,
    seconds: [4, 15],
    targets: ['postgres'],
    inflict: ({ arena }, _, healed) => failedOver(arena, healed),
  },
  {
    kind: 'dump',
    about: 'a session holds a snapshot of a database and all its tables, as pg_dump does',
    weight: 2,
    seconds: [15, 40],
    targets: owners,
    occupies: (service) => [`dump of ${service}`],
    inflict: ({ arena }, { target }, healed) => dumped(arena, target as Owner, healed),
  },
  {
    kind: 'cut',
    about: 'the network between a service and Kafka or Postgres resets and refuses',
    weight: 3,
    seconds: [0.1, 12],
    targets: linkNames,
    inflict: ({ arena }, { target }, healed) => disturbed(arena, target, (link) => link.cut(), healed),
  },
  {
    kind: 'stall',
    about: 'the network between a service and Kafka or Postgres holds everything back, and tells nobody',
    weight: 3,
    seconds: [1, 20],
    targets: linkNames,
    inflict: ({ arena }, { target }, healed) => disturbed(arena, target, (link) => link.stall(), healed),
  },
  {
    kind: 'delay',
    about: 'everything on the network between a service and Kafka or Postgres takes up to 0.5 s longer',
    weight: 2,
    seconds: [3, 20],
    targets: linkNames,
    inflict: ({ arena }, { target, force }, healed) =>
      disturbed(arena, target, (link) => link.delay(20 + 480 * force), healed),
  },
  {
    kind: 'duplicate',
    about: 'messages of a topic are published again as they are, with their ids',
    weight: 3,
    seconds: [0, 0],
    targets: topics.map(({ name }) => name).filter((name) => name !== 'shop.schema.v1'),
    occupies: (topic) => [`topic ${topic}`],
    async inflict({ arena }, { target, force }) {
      await eventually('Kafka to take them', () => publishAgain(arena, target, force), { timeoutMs: 20_000 })
    },
  },
  {
    kind: 'replay',
    about: 'a consumer group starts over from the beginning of all its topics, while its service is stopped',
    weight: 2,
    seconds: [20, 35],
    targets: owners.filter((owner) => owner !== 'user'), // which consumes nothing
    occupies: (service) => [service, `beside ${service}`], // a group starts over when it has no members
    async inflict({ arena, consumed }, { target, durationMs }, healed) {
      const pid = pidOf(arena, target)
      const rewinding = rewound(arena, target, consumed[target as Owner], durationMs)
      await paused([pid], Promise.race([healed, Promise.allSettled([rewinding]).then(() => {})]))
      await rewinding
    },
  },
  {
    kind: 'step-clock',
    about: "a service's clock is up to an hour ahead or behind for a while",
    weight: 2,
    seconds: [2, 15],
    targets: serviceNames,
    occupies: (service) => [`clock of ${service}`],
    async inflict({ arena }, { target, force }, healed) {
      const clock = arena.clocks[target as Owner]
      clock.step(Math.round((2 * force - 1) * 3_600_000))
      await healed
      clock.step(0)
    },
  },
  {
    kind: 'deploy-beside',
    about: 'an instance of the previous version runs beside a service, on the same database and in the same group',
    weight: 2,
    seconds: [10, 30],
    targets: owners,
    occupies: (service) => [`beside ${service}`],
    async inflict({ arena, previous }, { target, force }, healed) {
      const second = await arena.startBeside(target as Owner, previous)
      try {
        await eventually('the other instance to be ready', () => second.ready, { timeoutMs: 40_000 })
        await healed
        // Half of them end by themselves, the others as when a machine goes.
        if (force < 0.5) second.kill('SIGKILL')
      } finally {
        await second.stop(5_000)
      }
    },
  },
  {
    kind: 'roll',
    about: 'each service becomes the previous version, one after the other; then each this one again',
    weight: 1,
    seconds: [5, 20],
    targets: ['services'],
    async inflict({ arena, previous }, _, healed) {
      try {
        for (const service of serviceNames) await rolled(arena, service, previous)
        await healed
      } finally {
        await rolledBack(arena)
      }
    },
  },
]

/** Every kind of fault that there is. */
export const faultKinds: readonly FaultKind[] = rows.map((row) => ({ occupies: (target) => [target], ...row }))

/** Each, also when another is not ready; throws what the first of those said. */
async function rolledBack(arena: Arena): Promise<void> {
  const failures: unknown[] = []
  for (const service of serviceNames) await rolled(arena, service, thisVersion).catch((error) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

/** Faults beside it may keep it from being ready at once. */
async function rolled(arena: Arena, name: ServiceName, version: Version): Promise<void> {
  const service = processOf(arena, name)
  const before = service.pid // none while another fault has it started again
  arena.roll(name, version)
  const isAnother = async () => service.pid !== undefined && service.pid !== before && service.ready
  await eventually(`${name} of ${version.name} to be ready`, isAnother, { timeoutMs: 60_000 })
}

/** A stopped consumer has left its group after 6 s, and after 15 s where the group was just being arranged. */
const sessionEndMs = 7_000

/** Lets a group start over from the beginning once it has no members, topic by topic. */
async function rewound({ reach: { bus } }: Arena, group: string, topics: readonly string[], withinMs: number) {
  const deadline = performance.now() + withinMs
  await delay(sessionEndMs)
  for (const topic of topics) {
    await eventually(`group ${group} to start over in ${topic}`, () => bus.rewind(group, [topic]).then(() => true), {
      timeoutMs: Math.max(0, deadline - performance.now()),
      everyMs: 500,
    })
  }
}

function pidOf(arena: Arena, name: string): number {
  const { pid } = processOf(arena, name)
  if (pid === undefined) throw new Error('it is not running')
  return pid
}

async function paused(pids: number[], healed: Promise<void>): Promise<void> {
  if (pids.length === 0) throw new Error('it is not running')
  for (const pid of pids) signal(pid, 'SIGSTOP')
  await healed
  for (const pid of pids) signal(pid, 'SIGCONT')
}

async function killed(server: ControlledServer, healed: Promise<void>): Promise<void> {
  await server.kill()
  await healed
  // Once more, as the shop's own watch does: on a starved machine a Kafka was stuck in its start.
  await server.restart().catch(() => server.restart())
}

async function disturbed({ links }: Arena, name: string, how: (link: TcpProxy) => void, healed: Promise<void>) {
  const link = links[name as LinkName]
  // Else nobody would notice that services go another way.
  if (link.connections === 0) throw new Error('nothing is connected through it')
  how(link)
  await healed
  link.heal()
}

async function troubled(arena: Arena, trouble: MailTrouble, healed: Promise<void>): Promise<void> {
  arena.troubleMails(trouble)
  await healed
  arena.troubleMails(undefined)
}

const asSuperuser = (url: string, as: string) => openSession(url, as, { default_transaction_read_only: 'off' })
const databaseOf = ({ shop }: Arena, owner: Owner) => new URL(shop.databaseUrl(owner)).pathname.slice(1)

/** For so long every session is one of the server that takes no writes any more, before the other is promoted. */
const demotedMs = 2_000
/** An unused session ends after 30 s; a service that is stopped meanwhile has its sessions for 20 s more. */
const leftBehindMs = 90_000

/**
 * The file's setting reaches all sessions that live, and a database's goes before it in those that begin from then on: so
 * one server is the one that was left behind, and the one that was promoted. Heals only when nobody is left behind any more.
 */
async function failedOver(arena: Arena, healed: Promise<void>): Promise<void> {
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

async function dumped(arena: Arena, owner: Owner, healed: Promise<void>): Promise<void> {
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

async function slowed(server: ControlledServer, healed: Promise<void>): Promise<void> {
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
function treeOfServer({ pid }: ControlledServer): number[] {
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
 * A stretch of a topic once more, in its order. Of compacted topics the last message of each key alone: an older one would
 * stay as the key's last, which no producer does.
 */
async function publishAgain({ reach: { bus } }: Arena, topic: string, force: number): Promise<boolean> {
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
