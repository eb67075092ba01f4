import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { createServiceDatabase, dropServiceDatabase } from '@shopstream/database'
import {
  createSteppedClock,
  eventually,
  type LocalKafkaCluster,
  type LocalPostgres,
  removePostgres,
  startKafkaCluster,
  startPostgres,
} from '@shopstream/testing'
import kafkajs from 'kafkajs'
import { pause } from './async.ts'
import {
  atRest,
  openTestShop,
  stockEvent,
  stockEvents,
  type TestShop,
  type TestShopOptions,
  upTo,
} from './test-shop.ts'
import { closeGate } from './test-shop-child.ts'

const minute = 60_000
const hour = 60 * minute
const patience = { timeoutMs: 2 * minute, everyMs: 100 }
/** In all partitions. */
const keys = upTo(12).map((n) => `sku-${n}`)

let dir: string
let cluster: LocalKafkaCluster
let postgres: LocalPostgres
let shop: TestShop

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'shopstream-outages-'))
  chmodSync(dir, 0o711)
  const password = randomBytes(12).toString('hex')
  ;[cluster, postgres] = await Promise.all([
    startKafkaCluster({ dir: join(dir, 'kafka') }),
    startPostgres({ dir: join(dir, 'postgres'), password }), // durable: a commit that was told outlives a kill -9
  ])
}, minute)

afterEach(() => shop.close())

afterAll(async () => {
  await Promise.all([cluster?.stop(), postgres?.stop()])
  removePostgres(join(dir, 'postgres'))
  rmSync(dir, { recursive: true, force: true })
}, minute)

async function open(options: TestShopOptions = {}): Promise<TestShop> {
  const name = `outage_${randomBytes(5).toString('hex')}`
  const url = await createServiceDatabase(postgres.url, { name, password: randomBytes(12).toString('hex') })
  const database = { url, drop: () => dropServiceDatabase(postgres.url, name) }
  return openTestShop({ brokers: cluster.brokers, database, ...options })
}

/** Emits an event of each key again and again until stopped. */
function keepEmitting(): { readonly rounds: number; stop(): Promise<number> } {
  const stopping = new AbortController()
  let rounds = 0
  const running = (async () => {
    while (!stopping.signal.aborted) {
      rounds += 1
      await shop.emit(...keys.map((key) => stockEvent(key, BigInt(rounds))))
      await pause(10)
    }
  })()
  return {
    get rounds() {
      return rounds
    },
    async stop() {
      stopping.abort()
      await running
      return rounds
    },
  }
}

const effectsOf = async (instance: string) => (await shop.effects()).filter((effect) => effect.instance === instance)

/** Everything took effect once and in order, and stands in the topic. */
async function expectAll(rounds: number, others: Record<string, number[]> = {}) {
  const all = { ...Object.fromEntries(keys.map((key) => [key, upTo(rounds)])), ...others }
  expect(await atRest(shop, patience.timeoutMs)).toEqual({ effects: all, stored: all })
  expect(await shop.parked()).toEqual([])
}

describe('brokers', () => {
  const node = (n: number) => cluster.nodes[n] as LocalKafkaCluster['nodes'][number]
  test.each([
    ['killed with -9', () => node(0).kill(), () => node(0).restart()],
    ['stopped in order', () => node(1).stop(), () => node(1).restart()],
    ['frozen', () => node(2).kill('SIGSTOP'), () => node(2).kill('SIGCONT')],
  ])(
    'one of three is %s while the relay publishes, and comes back: nothing acknowledged is missing',
    async (_, fail, heal) => {
      shop = await open()
      const child = shop.startProcess('child')
      const emitting = keepEmitting()
      await handledRound(10)
      await fail()
      const failed = emitting.rounds
      await handledRound(failed + 1)
      await heal()
      await handledRound(emitting.rounds + 1)
      await expectAll(await emitting.stop())
      expect(child.isAlive).toBe(true)
    },
    5 * minute,
  )
})

/** Waits until a round of the load has taken effect for every key. */
const handledRound = (round: number) =>
  eventually(
    `round ${round} to be handled`,
    async () => (await shop.effects()).filter(({ sequence }) => sequence === BigInt(round)).length === keys.length,
    patience,
  )

describe('instances', () => {
  test(
    'one of two is stopped in the middle of a chunk until its session and its locks are over, and wakes: the other has gone on, nothing is done twice',
    async () => {
      shop = await open()
      const gate = await closeGate(shop.url)
      const first = shop.startProcess('first')
      const emitting = keepEmitting()
      await handledRound(10)
      await shop.emit(stockEvent('gated', 1n))
      await gate.arrival('first')
      await first.kill('SIGSTOP')
      await gate.open()
      const second = shop.startProcess('second')
      await handledRound(emitting.rounds + 1)
      await eventually(
        'the second to have the gated one',
        async () => (await effectsOf('second')).some(({ key }) => key === 'gated'),
        patience,
      )
      const woken = emitting.rounds
      await first.kill('SIGCONT')
      await eventually(
        'the first to work again',
        async () => (await effectsOf('first')).some(({ sequence }) => sequence > BigInt(woken)),
        patience,
      )
      await expectAll(await emitting.stop(), { gated: [1] })
      expect([first.isAlive, second.isAlive]).toEqual([true, true])
    },
    3 * minute,
  )

  test(
    'the clock is stepped an hour ahead, two hours back, and right again: events go on, and the member stays in its group',
    async () => {
      shop = await open()
      const clock = createSteppedClock(join(dir, 'clock'))
      const child = shop.startProcess('child', clock)
      const emitting = keepEmitting()
      await handledRound(10)
      for (const offset of [hour + minute, -hour - minute, 0]) {
        clock.step(offset)
        await handledRound(emitting.rounds + 100)
      }
      clock.step(-hour)
      await handledRound(emitting.rounds + 100)
      await expectAll(await emitting.stop())
      await memberThatStays()
      expect(child.isAlive).toBe(true)
    },
    3 * minute,
  )

  test(
    'a handler that computes for longer than the session lasts is parked; what comes behind it takes effect',
    async () => {
      shop = await open()
      const child = shop.startProcess('child')
      await shop.emit(...stockEvents('computing', 1, 2), ...keys.map((key) => stockEvent(key, 1n)))
      await handledRound(1)
      await eventually('the parked', async () => (await shop.parked()).length === 2, patience)
      expect(await shop.parked()).toMatchObject([
        { key: 'computing', state: 'waiting', error: expect.stringMatching(/connection|Connection/) },
        { key: 'computing', state: 'waiting', attempts: 0 },
      ])
      expect(child.isAlive).toBe(true)
    },
    3 * minute,
  )
})

/** Waits for a member that outlives the session timeout (6 s) while there is nothing to do. */
async function memberThatStays() {
  const admin = new kafkajs.Kafka({ brokers: cluster.brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()
  let known: { member: string | undefined; since: number } | undefined
  try {
    await admin.connect()
    await eventually(
      'a member that stays',
      async () => {
        const { groups } = await admin.describeGroups([`${shop.broker.topicPrefix}shop`])
        const member = groups[0]?.members[0]?.memberId
        if (!member || member !== known?.member) known = { member, since: performance.now() }
        return member !== undefined && performance.now() - known.since > 9_000
      },
      { timeoutMs: minute, everyMs: 200 },
    )
  } finally {
    await admin.disconnect()
  }
}

describe('Postgres', () => {
  test.each(['wakes up', 'is killed too'])(
    'killed with -9 between the commit and the commit of the offset, where the consumer %s: effects once',
    async (fate) => {
      shop = await open()
      const child = shop.startProcess('child')
      await shop.emit(...keys.flatMap((key) => stockEvents(key, 1, 20)))
      await handledRound(20)
      await shop.emit(...keys.map((key) => stockEvent(key, 21n)), stockEvent('stopping', 1n))
      await eventually('it to have stopped after the commit', () => child.isStopped)
      await postgres.kill()
      await postgres.restart()
      const positions = await shop.bus.positions('shop', ['shop.stock.v1'])
      expect(positions.some(({ end, done }) => done < end)).toBe(true)
      expect(await eventually('the effects', () => shop.effects())).toContainEqual(
        expect.objectContaining({ key: 'stopping' }),
      )
      if (fate === 'wakes up') await child.kill('SIGCONT')
      else {
        await child.kill('SIGKILL')
        shop.startProcess('next')
      }
      await eventually('another event', () => shop.emit(...keys.map((key) => stockEvent(key, 22n))).then(() => true))
      await handledRound(22)
      await expectAll(22, { stopping: [1] })
      expect(child.isAlive).toBe(fate === 'wakes up')
    },
    3 * minute,
  )
})
