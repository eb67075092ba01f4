import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { openSession, sql, type Transaction } from '@shopstream/database'
import { createLogger } from '@shopstream/observability'
import {
  createSteppedClock,
  eventually,
  type LocalPostgres,
  removePostgres,
  startKafka,
  startPostgres,
  startPostgresPair,
} from '@shopstream/testing'
import kafkajs from 'kafkajs'
import { outgoing } from './outbox/outbox.ts'
import { expectRounds, handledRound, keys, type Load, patience, startLoad } from './testing/load.ts'
import {
  atRest,
  databaseIn,
  openTestShop,
  stockEvents,
  type TestShop,
  type TestShopOptions,
  upTo,
} from './testing/shop.ts'
import { closeGate } from './testing/shop-child.ts'
import { stockEvent } from './testing/stock.ts'

const minute = 60_000
const hour = 60 * minute

let dir: string
let postgres: LocalPostgres

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'shopstream-outages-'))
  chmodSync(dir, 0o711) // as root, Postgres runs as another user, who has to get through
  // Durable: a commit that was told outlives a kill -9.
  postgres = await startPostgres({ dir: join(dir, 'postgres'), password: randomBytes(12).toString('hex') })
}, minute)

afterAll(async () => {
  await postgres?.stop()
  removePostgres(join(dir, 'postgres'))
  rmSync(dir, { recursive: true, force: true })
})

/**
 * Most of these wait most of the time, for sessions and locks to be over, so they run side by side. (Jest refuses an
 * `import()` in such a test once another one has ended.)
 */
function outage(name: string, work: (shop: TestShop) => Promise<void>, options: TestShopOptions = {}): void {
  test.concurrent(name, () => inShop(work, options), 4 * minute)
}

async function inShop(work: (shop: TestShop) => Promise<void>, options: TestShopOptions = {}): Promise<void> {
  const shop = await openTestShop(options)
  try {
    await work(shop)
  } catch (error) {
    for (const { log } of shop.children)
      process.stderr.write(`the last words of an instance:\n${log.slice(-30).join('\n')}\n`)
    throw error
  } finally {
    await shop.close()
  }
}

const effectsOf = async (shop: TestShop, instance: string) =>
  (await shop.effects()).filter((effect) => effect.instance === instance)

outage(
  'the clock is stepped an hour ahead, two hours back, and right again: events go on, and the member stays in its group',
  async (shop) => {
    const clock = createSteppedClock(join(dir, 'clock'))
    const child = shop.startProcess('child', { clock })
    const load = startLoad(shop)
    await load.handled(10)
    for (const offset of [hour + minute, -hour - minute, 0, -hour]) {
      clock.step(offset)
      await load.handled(load.rounds + 20)
    }
    await load.finish()
    await memberThatStays(shop)
    expect(child.isAlive).toBe(true)
  },
)

outage(
  'one of two instances is stopped in the middle of a chunk until its session and its locks are over, and wakes: the other has gone on, nothing is done twice',
  async (shop) => {
    const gate = await closeGate(shop.url)
    const first = shop.startProcess('first')
    const load = startLoad(shop)
    await load.handled(10)
    await shop.emit(stockEvent('gated', 1n))
    await gate.arrival('first')
    await first.kill('SIGSTOP')
    await gate.open()
    const second = shop.startProcess('second')
    await load.handled(load.rounds + 1)
    await eventually(
      'the second to have the gated one',
      async () => (await effectsOf(shop, 'second')).some(({ key }) => key === 'gated'),
      { ...patience, everyMs: 500 },
    )
    const woken = load.rounds
    await first.kill('SIGCONT')
    await eventually(
      'the first to work again',
      async () => (await effectsOf(shop, 'first')).some(({ sequence }) => sequence > BigInt(woken)),
      { ...patience, everyMs: 500 },
    )
    await load.finish({ gated: [1] })
    expect([first.isAlive, second.isAlive]).toEqual([true, true])
  },
)

outage(
  'a second instance joins while the first is in the middle of a batch: what is left of it is done by whoever has the partition then',
  async (shop) => {
    const gate = await closeGate(shop.url)
    const first = shop.startProcess('first')
    await shop.emit(stockEvent('gated', 1n), ...keys.flatMap((key) => stockEvents(key, 1, 100)))
    await gate.arrival('first')
    const second = shop.startProcess('second')
    await eventually('the second to ask for its share', async () => (await shop.bus.members('shop')) === 2, patience)
    await gate.open()
    const load = startLoad(shop, 101)
    await eventually('both to work', () => bothWorkOn(shop, 101), { ...patience, everyMs: 500 })
    await load.finish({ gated: [1] })
    expect([first.isAlive, second.isAlive]).toEqual([true, true])
  },
)

async function bothWorkOn(shop: TestShop, since: number): Promise<boolean> {
  const done = (await shop.effects()).filter(({ sequence }) => sequence > BigInt(since))
  return new Set(done.map(({ instance }) => instance)).size === 2
}

outage(
  'a handler that computes for longer than the session lasts is parked; what comes behind it takes effect',
  async (shop) => {
    const child = shop.startProcess('child')
    await shop.emit(...stockEvents('computing', 1, 2), ...keys.map((key) => stockEvent(key, 1n)))
    await handledRound(shop, 1)
    await eventually('the parked', async () => (await shop.parked()).length === 2, patience)
    expect(await shop.parked()).toMatchObject([
      { key: 'computing', state: 'waiting', error: expect.stringMatching(/connection|Connection/) },
      { key: 'computing', state: 'waiting', attempts: 0 },
    ])
    expect(child.isAlive).toBe(true)
  },
)

outage(
  'a handler that waits for longer than the session lasts takes effect once, and its member stays in the group',
  async (shop) => {
    const child = shop.startProcess('child')
    await shop.emit(...keys.map((key) => stockEvent(key, 1n)))
    await handledRound(shop, 1)
    const before = await membersOf(shop)
    await shop.emit(stockEvent('slow', 1n), ...keys.map((key) => stockEvent(key, 2n)))
    await expectRounds(shop, 2, { slow: [1] })
    expect([await membersOf(shop), child.isAlive]).toEqual([before, true])
  },
)

async function membersOf(shop: TestShop): Promise<string[]> {
  const { brokers, topicPrefix } = shop.broker
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()
  try {
    await admin.connect()
    const { groups } = await admin.describeGroups([`${topicPrefix}shop`])
    return groups.flatMap(({ members }) => members.map(({ memberId }) => memberId))
  } finally {
    await admin.disconnect()
  }
}

/** Waits for a member that outlives the session timeout (6 s) while there is nothing to do. */
async function memberThatStays(shop: TestShop) {
  let known: { member: string | undefined; since: number } | undefined
  await eventually(
    'a member that stays',
    async () => {
      const [member] = await membersOf(shop)
      if (!member || member !== known?.member) known = { member, since: performance.now() }
      return member !== undefined && performance.now() - known.since > 9_000
    },
    { timeoutMs: minute, everyMs: 500 },
  )
}

test.concurrent(
  'Postgres is killed with -9 between the commit and the commit of the offset, where one consumer wakes up and another is killed too: effects once',
  async () => {
    const [waking, dying] = await Promise.all([stoppedAfterCommit(), stoppedAfterCommit()])
    try {
      await postgres.kill()
      await postgres.restart()
      for (const { shop } of [waking, dying]) {
        const positions = await shop.bus.positions('shop', ['shop.stock.v1'])
        expect(positions.some(({ end, done }) => done < end)).toBe(true)
        expect(await eventually('the effects', () => shop.effects())).toContainEqual(
          expect.objectContaining({ key: 'stopping' }),
        )
      }
      await waking.child.kill('SIGCONT')
      await dying.child.kill('SIGKILL')
      dying.shop.startProcess('next')
      for (const { shop } of [waking, dying]) {
        await eventually('another event', () => shop.emit(...keys.map((key) => stockEvent(key, 22n))).then(() => true))
        await expectRounds(shop, 22, { stopping: [1] })
      }
      expect([waking.child.isAlive, dying.child.isAlive]).toEqual([true, false])
    } finally {
      await Promise.all([waking.shop.close(), dying.shop.close()])
    }
  },
  4 * minute,
)

/** A shop whose consumer has stopped itself after a commit, before anything else. */
async function stoppedAfterCommit() {
  const shop = await openTestShop({ database: await databaseIn(postgres.url) })
  const child = shop.startProcess('child')
  await shop.emit(...keys.flatMap((key) => stockEvents(key, 1, 20)))
  await handledRound(shop, 20)
  await shop.emit(...keys.map((key) => stockEvent(key, 21n)), stockEvent('stopping', 1n))
  await eventually('it to have stopped after the commit', () => child.isStopped, patience)
  return { shop, child }
}

test.concurrent(
  'the database fails over to its standby while sessions stay behind that take no writes: events go on there, effects once',
  async () => {
    const pair = await startPostgresPair(dir)
    try {
      await inShop(
        async (shop) => {
          const child = shop.startProcess('child')
          const round = (n: number) => shop.emit(...keys.map((key) => stockEvent(key, BigInt(n))))
          await round(1)
          await handledRound(shop, 1)
          await pair.switchOver()
          await eventually('events to be taken', () => round(2).then(() => true))
          await handledRound(shop, 2)
          await round(3)
          await expectRounds(shop, 3)
          expect(child.isAlive).toBe(true)
        },
        { database: await databaseIn(pair.url) },
      )
    } finally {
      await pair.stop()
    }
  },
  4 * minute,
)

test.concurrent(
  'the only broker is killed with -9, stopped in order, and frozen while a process starts, and comes back each time: events wait in the outbox',
  async () => {
    const kafka = await startKafka({ dir: join(dir, 'kafka') })
    try {
      await inShop(
        async (shop) => {
          const child = shop.startProcess('child')
          const load = startLoad(shop)
          await load.handled(10)
          for (const fail of [() => kafka.kill(), () => kafka.stop()]) {
            await fail()
            await outlast(load, () => kafka.restart())
          }
          expect(child.isAlive).toBe(true)
          await child.kill('SIGKILL')
          await kafka.kill('SIGSTOP')
          const next = shop.startProcess('next')
          const hasSaid = (words: string) => next.log.some((line) => line.includes(words))
          // It has a connection then, of which KafkaJS thinks that it is ready.
          await eventually('the relay to have tried', () => hasSaid('the relay starts again'), patience)
          await kafka.kill('SIGCONT')
          await load.handled(load.rounds + 1)
          await load.finish()
          expect(next.isAlive).toBe(true)
        },
        { brokers: kafka.brokers },
      )
    } finally {
      await kafka.stop()
    }
  },
  4 * minute,
)

/** Lets events wait for what is down, and sees that they take effect once it is mended. */
async function outlast(load: Load, mend: () => Promise<void>): Promise<void> {
  const failed = load.rounds
  await eventually('events to wait', () => load.rounds > failed + 10, patience)
  await mend()
  await load.handled(load.rounds + 1)
}

outage(
  'topics are missing at the start: events wait for the deployment, and then take effect',
  async (shop) => {
    const child = shop.startProcess('child')
    await shop.emit(...keys.map((key) => stockEvent(key, 1n)))
    const hasSaid = (words: string) => child.log.some((line) => line.includes(words))
    await eventually('the consumer to have tried', () => hasSaid('the consumer is built anew'), patience)
    expect(await shop.outbox()).toHaveLength(keys.length)
    await shop.deploy()
    await expectRounds(shop, 1)
    expect(child.isAlive).toBe(true)
  },
  { deployed: false },
)

/** Whether this process may mount (CAP_SYS_ADMIN); a file system of a few megabytes is a matter of Linux. */
function mayMount(): boolean {
  if (process.platform !== 'linux') return false
  const [, capabilities] = /^CapEff:\t(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return ((BigInt(`0x${capabilities ?? 0}`) >> 21n) & 1n) === 1n
}

const whereMounted = mayMount() ? test.concurrent : test.concurrent.skip
whereMounted(
  `the broker's disk is full, and freed: events wait in the outbox${mayMount() ? '' : ' (skipped: needs root on Linux, to mount a small disk)'}`,
  async () => {
    const disk = join(dir, 'small-disk')
    mkdirSync(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk])
    try {
      const kafka = await startKafka({ dir: disk })
      try {
        await inShop(
          async (shop) => {
            const child = shop.startProcess('child')
            const load = startLoad(shop)
            await load.handled(10)
            const ballast = join(disk, 'ballast')
            expect(() => fill(ballast)).toThrow('ENOSPC')
            await eventually('the broker to give up', () => !kafka.running, patience)
            await outlast(load, async () => {
              rmSync(ballast)
              await kafka.restart()
            })
            await load.finish()
            expect(child.isAlive).toBe(true)
          },
          { brokers: kafka.brokers },
        )
      } finally {
        await kafka.stop()
      }
    } finally {
      execFileSync('umount', [disk])
    }
  },
  4 * minute,
)

function fill(file: string): void {
  const block = Buffer.alloc(64 * 1024)
  for (;;) appendFileSync(file, block)
}

/** A shop that tells what it has logged. */
function talkative() {
  const said: string[] = []
  const logger = createLogger({ service: 'test', level: 'warn', format: 'json' }, { write: (line) => said.push(line) })
  return { logger, hasSaid: (words: string) => said.some((line) => line.includes(words)) }
}

test.concurrent(
  'all connections of the pool are taken: messages wait for one, and take effect once',
  async () => {
    const { logger, hasSaid } = talkative()
    await inShop(
      async (shop) => {
        await shop.start()
        await shop.emit(...keys.map((key) => stockEvent(key, 1n)))
        await handledRound(shop, 1)
        const released = new AbortController()
        const hold = () =>
          shop.database.transaction(async (tx) => {
            while (!released.signal.aborted) await sql`select pg_sleep(0.2)`.execute(tx) // an idle one would be ended
          })
        const holding = Promise.all([hold(), hold()])
        await shop.bus.publish(keys.map((key) => outgoing('shop', stockEvent(key, 2n))))
        await eventually(
          'the consumer to have asked for a connection in vain',
          () => hasSaid('the database is unavailable; the chunk is tried again'),
          patience,
        )
        released.abort()
        await holding
        await expectRounds(shop, 2)
      },
      { poolSize: 2, logger },
    )
  },
  4 * minute,
)

test.concurrent(
  'handlers run into deadlocks: their chunks are tried again, and take effect once',
  async () => {
    const { logger, hasSaid } = talkative()
    await inShop(
      async (shop) => {
        await shop.start()
        let sequence = 0
        while (!hasSaid('deadlock detected')) {
          sequence += 1
          await crossLocks(shop, () => shop.emit(stockEvent('crossing', BigInt(sequence))))
        }
        await eventually('all effects', async () => (await shop.effects()).length === sequence, patience)
        const all = { crossing: upTo(sequence) }
        expect(await atRest(shop)).toEqual({ effects: all, stored: all })
        expect(await shop.parked()).toEqual([])
      },
      {
        logger,
        trouble: async (_, tx) => {
          await lock(tx, 1)
          await lock(tx, 2)
        },
      },
    )
  },
  4 * minute,
)

const lock = (tx: Transaction, number: number) => sql`select pg_advisory_xact_lock(4712, ${number})`.execute(tx)

/** Takes the handler's second lock before it, and its first one after it. One of the two is chosen by Postgres to fail. */
async function crossLocks(shop: TestShop, startHandler: () => Promise<void>): Promise<void> {
  const session = await openSession(shop.url, 'crossing', {})
  try {
    await session.query('begin')
    await session.query('select pg_advisory_xact_lock(4712, 2)')
    await startHandler()
    await eventually(
      'the handler to wait',
      async () =>
        (await session.query(`select 1 from pg_locks where locktype = 'advisory' and classid = 4712 and not granted`))
          .length > 0,
      patience,
    )
    await session.query('select pg_advisory_xact_lock(4712, 1)').catch((error) => expect(error.code).toBe('40P01'))
    await session.query('rollback')
  } finally {
    await session.close()
  }
}
