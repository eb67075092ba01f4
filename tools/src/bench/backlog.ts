/** What has piled up while nobody handled it: how fast it is caught up with, and by more instances how much faster. */
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { openSession } from '@shopstream/database'
import { eventually, repository, runCommand, temporaryFolder } from '@shopstream/testing'
import { type Shop, startShop } from '../local/shop.ts'
import { probe } from '../local/supervisor.ts'
import { findMaximum, inWords, measureThroughput, openCounter, startArm } from './arm.ts'
import { openShop, startInstance } from './arm-ours.ts'
import { fill } from './fill.ts'
import { cpuOf, listed, type Say, treeOf, usedPer } from './measure.ts'
import { compared, type Result } from './results.ts'
import { mustBeRight } from './verify.ts'

const rounds = 3
const mostClients = 256
/** As many as `openShop` has, so that a chunk changes as many levels as under load. */
const products = 20

/** Waiting orders for each second of a round: 200,000 for 20 s. */
const waitingPerSecond = 10_000
const drainLimitMs = 900_000

/**
 * Orders that no group has handled yet, each a message for inventory, order and notification, until the last has its
 * mail; beside the most orders that arrive and are handled at the same time.
 */
export async function backlog(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const home = temporaryFolder('bench')
  const waiting = waitingPerSecond * seconds
  try {
    const arriving: number[] = []
    const running = await openShop(mostClients, products, { home })
    try {
      const { clients } = await findMaximum(running, 8, say)
      for (let round = 1; round <= rounds; round++) {
        const found = await measureThroughput(running, clients, seconds)
        say(inWords(found))
        arriving.push(found.perSecond)
      }
      await fill(running.shop, { orders: 0, products, waiting }, say)
    } finally {
      await running.stop()
    }
    const drained = await drain(home, waiting, say)
    const reference = { name: 'the most that arrive', figures: arriving }
    return [compared({ name: 'backlog', unit: 'orders/s', goal: 1.5, ours: [drained], reference })]
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

/** Orders a second from when the shop is ready until all have their mail's row. */
async function drain(home: string, waiting: number, say: Say): Promise<number> {
  const shop = await startShop({ home })
  const mails = openCounter(
    shop.databaseUrl('notification'),
    // The ids of users that a shop was filled with begin with zeros.
    `select count(*)::int as n from notification where kind = 'confirmed' and user_id < '00000001-0000-0000-0000-000000000000'`,
  )
  try {
    const [begun, done, cpu] = [performance.now(), await mails.count(), cpuOf(treeOf(process.pid))]
    let said = done
    await eventually(
      'the backlog to be drained',
      async () => {
        const now = await mails.count()
        if (now - said < waiting / 4 && now < waiting) return false
        said = now
        say(`${now} of ${waiting} orders have their mail after ${((performance.now() - begun) / 1_000).toFixed(0)} s`)
        return now >= waiting
      },
      { timeoutMs: drainLimitMs, everyMs: 500 },
    )
    const perOrder = usedPer((waiting - done) / 1_000, cpu, cpuOf(treeOf(process.pid)))
    const perSecond = (waiting - done) / ((performance.now() - begun) / 1_000)
    say(`${perSecond.toFixed(1)} orders/s; CPU ms per order: ${listed(perOrder, '')}`)
    await mustBeRight(home, say)
    return perSecond
  } finally {
    await mails.close()
    await shop.stop()
  }
}

const partitions = 12
const instances = 3
/** Time without computing, as when a handler waits for another service. */
const asleepMs = 20
const joinSeconds = 8
/** Orders placed for each second in which instances run: three instances and one reserve up to 15,000 together. */
const placedPerSecond = 20_000

/**
 * Orders a second that inventory reserves, by three instances and by one. Each handles one chunk at once, as its
 * consumer has one connection, and sleeps in it: a trigger in this database does that, so that the inventory service is
 * unchanged.
 */
export async function scaleOut(say: Say, { seconds }: { seconds: number }): Promise<Result[]> {
  const lasting = seconds / 2
  const waiting = Math.ceil(rounds * (joinSeconds + lasting) * placedPerSecond)
  const parts = await startArm(async (undo) => {
    const home = temporaryFolder('bench')
    undo.push(async () => rmSync(home, { recursive: true, force: true }))
    const shop = await startShop({ home })
    undo.push(shop.stop)
    const grow = ['tools/src/commands/shop.ts', 'grow', 'shop.order.v1', '--partitions', String(partitions)]
    await runCommand(process.execPath, grow, { cwd: repository, env: { ...process.env, SHOPSTREAM_HOME: home } })
    await fill(shop, { orders: 0, products, waiting }, say)
    await sleepInChunks(shop)
    const reserved = openCounter(shop.databaseUrl('inventory'), 'select count(*)::int as n from reservation')
    undo.push(reserved.close)
    return { shop, waiting, reserved: reserved.count }
  })
  try {
    const [three, one]: [number[], number[]] = [[], []]
    for (let round = 1; round <= rounds; round++) {
      three.push(await reserve(parts, instances, lasting, say))
      one.push(await reserve(parts, 1, lasting, say))
    }
    const reference = { name: 'one instance', figures: one }
    return [compared({ name: 'scale-out', unit: 'orders/s', goal: 2.7, ours: three, reference })]
  } finally {
    await parts.stop()
  }
}

async function sleepInChunks(shop: Shop): Promise<void> {
  const session = await openSession(shop.databaseUrl('inventory'), 'bench', {})
  await session.query(`
    create function sleep() returns trigger language plpgsql as $$
    begin
      perform pg_sleep(${asleepMs / 1_000});
      return null;
    end $$`)
  await session.query('create trigger bench_sleep before insert on inbox for each statement execute function sleep()')
  await session.close()
}

/** Starts so many instances of inventory, lets them share the partitions, and counts what they reserve a second. */
async function reserve(
  { shop, waiting, reserved }: { shop: Shop; waiting: number; reserved: () => Promise<number> },
  count: number,
  seconds: number,
  say: Say,
): Promise<number> {
  const running = await startArm(async (undo) => {
    for (let n = 0; n < count; n++) undo.push((await startInventory(shop)).stop)
    return {}
  })
  try {
    await delay(joinSeconds * 1_000)
    const [before, cpu, begun] = [await reserved(), cpuOf(treeOf(process.pid)), performance.now()]
    await delay(seconds * 1_000)
    const [after, lasted] = [await reserved(), (performance.now() - begun) / 1_000]
    const percent = usedPer(lasted / 100, cpu, cpuOf(treeOf(process.pid)))
    if (after >= waiting) throw new Error(`all ${waiting} orders are reserved before the rounds are over`)
    const perSecond = (after - before) / lasted
    say(`${count} of inventory: ${perSecond.toFixed(0)} orders/s; of a core: ${listed(percent, ' %')}`)
    return perSecond
  } finally {
    await running.stop()
  }
}

/** Ready, with one connection for its consumer. */
async function startInventory(shop: Shop) {
  const started = await startInstance(shop, 'inventory', { DATABASE_CONSUMER_POOL_SIZE: '1' })
  const isReady = async () => (await probe(`${started.url}/readyz`))?.status === 200
  await eventually('an instance of inventory to be ready', isReady, { timeoutMs: 60_000 })
  return started
}
