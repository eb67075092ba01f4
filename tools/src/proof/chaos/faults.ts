import { sql } from '@shopstream/database'
import { topics } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { serviceNames } from '../../local/services.ts'
import { type Owner, owners } from '../../operations/shop-access.ts'
import {
  disturbed,
  dumped,
  type FaultKind,
  failedOver,
  kill,
  killed,
  paused,
  pidOf,
  publishAgain,
  type Row,
  rewound,
  rolled,
  rolledBack,
  slowed,
  stop,
  treeOfServer,
  troubled,
} from './inflictions.ts'
import { linkNames } from './network-links.ts'

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
