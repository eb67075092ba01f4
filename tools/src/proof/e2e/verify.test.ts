/** `npm run shop -- verify` over one real shop: under load and at rest it finds nothing, then everything that is planted. */
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { sql, type Transaction } from '@shopstream/database'
import { decode, encode, type NewEventData, newEventId } from '@shopstream/events'
import type { NewEvent } from '@shopstream/messaging'
import {
  type ArchiveFile,
  archive,
  type IncomingMessage,
  listUnreadable,
  outgoing,
  stepOver,
} from '@shopstream/messaging/operations'
import { encodeBatch, openForeignProducer } from '@shopstream/messaging/testing'
import { eventually, repository } from '@shopstream/testing'
import { type Customer, order, orderOf, persistently, register, staffToken, stock } from '../../local/client.ts'
import type { Shop } from '../../local/shop.ts'
import { archive as archiveCommand, archiveFile } from '../../operations/archive.ts'
import { adoptTopics } from '../../operations/catch-up.ts'
import { ownershipOf } from '../../operations/services.ts'
import { findPlace, type Owner, owners, type Reach, reach } from '../../operations/shop-access.ts'
import { run, type Summary, verify } from '../../operations/verify.ts'
import { Refusal, UsageError } from '../../terminal/options.ts'
import { openShop } from './shop-under-test.ts'

const patience = { timeoutMs: 60_000 }
const minutes = 60_000

let opened: Awaited<ReturnType<typeof openShop>>
let shop: Shop
let staff: string
let customer: Customer
let held: Reach

beforeAll(async () => {
  opened = await openShop()
  shop = opened.shop
  staff = await staffToken(shop)
  customer = await register(shop)
  held = await reach(findPlace({ SHOPSTREAM_HOME: opened.home }))
}, 3 * minutes)

afterAll(async () => {
  for (const service of Object.values(shop?.services ?? {})) service.kill('SIGCONT')
  await held?.close()
  await shop?.stop()
  opened?.forget()
}, 30_000)

/** What was found, as `check subject`, sorted. */
const found = ({ checks }: Summary) =>
  checks.flatMap(({ findings }) => findings.map(({ check, subject }) => `${check} ${subject}`)).sort()

const asStaff = (method: string, path: string, body?: object) =>
  persistently(shop, method, path, { token: staff, ...(body && { body }) })

const ship = (id: string) => asStaff('POST', `/v1/orders/${id}/shipment`, { carrier: 'Post', trackingNumber: 'T-1' })

/** An order that has been confirmed. */
async function confirmed(sku: string, buyer = customer): Promise<string> {
  await order(shop, buyer.token, sku) // once it is known there
  const { body } = await persistently(shop, 'POST', '/v1/orders', { token: buyer.token, body: orderOf(sku) })
  await eventually(
    `${body.id} to be confirmed`,
    async () => (await asStaff('GET', `/v1/orders/${body.id}`)).body.status === 'confirmed',
    patience,
  )
  return body.id
}

const changeProduct = (sku: string, amount: number) =>
  asStaff('PUT', `/v1/products/${sku}`, {
    name: 'A thing',
    description: `For ${amount}.`,
    price: { amount, currency: 'EUR' },
  })

/** Orders, cancels, ships, delivers, changes and restocks until stopped; returns how many orders there were. */
async function live(skus: readonly string[], stop: AbortSignal): Promise<number> {
  const buyer = await register(shop)
  let count = 0
  while (!stop.aborted) {
    const sku = skus[count % skus.length] as string
    const { body } = await order(shop, buyer.token, sku)
    count += 1
    if (count % 3 === 0)
      await persistently(shop, 'POST', `/v1/orders/${body.id}/cancel`, {
        token: buyer.token,
        body: { reason: 'changed my mind' },
      })
    else if ((await ship(body.id)).status === 201 && count % 2 === 0)
      await asStaff('POST', `/v1/orders/${body.id}/delivery`)
    if (count % 10 === 0) await changeProduct(sku, 1_000 + count)
    if (count % 7 === 0)
      await asStaff('POST', `/v1/products/${sku}/stock-adjustments`, { delta: 2, reason: 'delivery' })
  }
  return count
}

/** Nothing is on its way: outboxes are empty, mails are out, groups have come to the ends of their topics. */
const rest = () =>
  eventually(
    'rest',
    async () => {
      const left = await Promise.all(
        owners.map(async (owner) => {
          const { rows } = await sql<{ count: number }>`select count(*)::integer as count from outbox`.execute(
            held.databases[owner].query,
          )
          return rows[0]?.count
        }),
      )
      const mails = await sql`select from notification where state in ('queued', 'awaiting-recipient')`.execute(
        held.databases.notification.query,
      )
      const positions = [
        ...(await held.bus.positions('inventory', ['shop.order.v1'])),
        ...(await held.bus.positions('order', ['shop.reservation.v1', 'shop.product.v1'])),
        ...(await held.bus.positions('notification', ['shop.order.v1', 'shop.user.v1'])),
      ]
      return (
        left.every((count) => count === 0) && mails.rows.length === 0 && positions.every(({ done, end }) => done >= end)
      )
    },
    patience,
  )

test(
  'finds nothing under load, again and again, nor at rest; mailings, resends and republished records are no findings',
  async () => {
    // Little of the first: some of its orders are rejected.
    const skus = await Promise.all([20, 10_000, 10_000].map((pieces) => stock(shop, staff, pieces)))
    const over = new AbortController()
    const lives = Promise.all(Array.from({ length: 4 }, () => live(skus, over.signal)))
    try {
      await asStaff('POST', '/v1/mailings', { subject: 'News', text: 'There are some.' })
      for (let look = 0; look < 6; look += 1) {
        const summary = await verify(held, { settleMs: 3_000 })
        expect(found(summary)).toEqual([])
        expect(summary.rows).toBeGreaterThan(0)
        if (look === 1) await sendAgain()
        if (look === 2) await tellAgain()
      }
    } finally {
      over.abort()
    }
    const counts = await lives
    expect(Math.min(...counts)).toBeGreaterThan(1)
    await rest()
    const summary = await verify(held, { settleMs: 0 })
    expect(found(summary)).toEqual([])
    const rowsOf = Object.fromEntries(summary.checks.map(({ name, rows }) => [name, rows]))
    expect(rowsOf['reservation-state']).toBe(counts.reduce((sum, count) => sum + count, 0))
    expect(rowsOf['mailing-recipients']).toBeGreaterThan(1)
  },
  5 * minutes,
)

/** Staff have a mail sent again. */
async function sendAgain() {
  const sent = await eventually(
    'a mail to have gone out',
    async () =>
      (
        await sql<{ id: string }>`select id from notification where state = 'sent' limit 1`.execute(
          held.databases.notification.query,
        )
      ).rows[0],
    patience,
  )
  expect(await asStaff('POST', `/v1/notifications/${sent.id}/resend`)).toMatchObject({ status: 202 })
}

test(
  'what a transaction hides is not lost: that it hides something is all that is told, until it has ended',
  async () => {
    const sku = await stock(shop, staff, 50)
    await confirmed(sku)
    await rest()
    const foreign = openForeignProducer(shop.kafka.brokers)
    try {
      const hiding = await foreign.transaction('shop.reservation.v1')
      await hiding.send([0, 1, 2, 3, 4, 5].map((partition) => ({ partition, value: 'begun' })))
      for (let n = 0; n < 3; n++) await order(shop, customer.token, sku)
      await eventually('inventory to have answered', async () => {
        const { rows } = await sql<{ count: number }>`select count(*)::integer as count from outbox`.execute(
          held.databases.inventory.query,
        )
        const positions = await held.bus.positions('inventory', ['shop.order.v1'])
        return rows[0]?.count === 0 && positions.every(({ done, end }) => done >= end)
      })
      const summary = await verify(held, { settleMs: 1_500 })
      expect(found(summary)).toEqual(
        [0, 1, 2, 3, 4, 5].map((n) => expect.stringMatching(`^unreadable-records shop.reservation.v1 ${n} `)),
      )
      const alone = await verify(held, { settleMs: 0, only: ['lost-event'] })
      expect(alone.checks.map(({ name, discrepancies }) => [name, discrepancies])).toEqual([
        ['unreadable-records', 6],
        ['lost-event', 0],
      ])
      await hiding.abort()
    } finally {
      await foreign.close()
    }
    await rest() // behind the markers, which now end all of its partitions
    expect(found(await verify(held, { settleMs: 0 }))).toEqual([])
  },
  2 * minutes,
)

/** An operator has the state of all users and products told again. */
function tellAgain() {
  for (const topic of ['shop.user.v1', 'shop.product.v1']) command(['republish', topic, '--all'], 0)
}

const command = (args: string[], status: number, env: NodeJS.ProcessEnv = { SHOPSTREAM_HOME: opened.home }) => {
  const run = spawnSync(process.execPath, ['tools/src/commands/shop.ts', ...args], {
    cwd: repository,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  expect({ status: run.status, stderr: run.status === status ? '' : run.stderr }).toEqual({ status, stderr: '' })
  return run.stdout
}

const transaction = (owner: Owner, work: (tx: Transaction) => Promise<unknown>) =>
  held.databases[owner].transaction(work)

const archives: [owner: Owner, table: string, id: string][] = [
  ['order', 'order', 'id'],
  ['inventory', 'reservation', 'order_id'],
  ['notification', 'notification', 'id'],
]

/** A run of few rows a batch, over what changed a year ago, which ends in its second batch: after it, or when it is on the disk. */
async function killed(owner: Owner, folder: string, when: 'moved' | 'on disk') {
  const [retention] = (await ownershipOf(owner)).retention
  if (!retention) throw new Error(`${owner} archives nothing`)
  const file = archiveFile(folder, `${owner}.${retention.table}`)
  let batches = 0
  const killAt = (what: typeof when) => {
    if (what === 'moved') batches += 1
    if (batches >= (when === 'moved' ? 2 : 1) && what === when) throw new Error('killed')
  }
  const deadly: ArchiveFile = {
    name: file.name,
    async append(lines) {
      await file.append(lines)
      killAt('on disk')
    },
  }
  const told = () => killAt('moved')
  const run = archive(held.databases[owner], retention, { days: 365, file: deadly, told, batchRows: 3 })
  await expect(run).rejects.toThrow('killed')
  await file.close()
}

/** What all files of a folder hold of a table, by whether the database knows the batch. */
async function archivedRows(folder: string, owner: Owner, table: string, id: string) {
  const { rows } = await sql<{ file: string; id: bigint }>`select file, id from archived_batch`.execute(
    held.databases[owner].query,
  )
  const counting = new Set(rows.map((batch) => `${batch.file} ${batch.id}`))
  const lines = readdirSync(folder)
    .filter((file) => file.startsWith(`${owner}.${table}.`))
    .flatMap((file) =>
      gunzipSync(readFileSync(join(folder, file)))
        .toString()
        .trimEnd()
        .split('\n')
        .map((line) => ({ file, ...JSON.parse(line) })),
    )
  const idsOf = (wanted: boolean) =>
    lines.filter(({ file, batch }) => counting.has(`${file} ${batch}`) === wanted).map((line) => line[table][id])
  return { counted: idsOf(true).sort(), uncounted: idsOf(false), lines }
}

async function countDue(): Promise<number> {
  const [retention] = (await ownershipOf('order')).retention
  return retention ? (await archive(held.databases.order, retention, { days: 730, file: undefined })).moved : 0
}

async function countWhileParked(key: string): Promise<number> {
  const { query } = held.databases.order
  await sql`insert into parked_message (topic, partition, "offset", key, headers, state)
    values ('shop.reservation.v1', 0, 1000000, ${key}, '{}', 'dead')`.execute(query)
  const count = await countDue()
  await sql`delete from parked_message where key = ${key}`.execute(query)
  return count
}

/** What catching up would find that the tables do not know. */
async function caughtUp(owner: Owner): Promise<unknown> {
  const { databases, bus } = held
  let result: unknown
  const rolledBack = new Error('rolled back')
  const run = databases[owner].transaction(async (tx) => {
    const { adopted, lost } = await adoptTopics(bus, tx, await ownershipOf(owner))
    result = { adopted: adopted.reduce((sum, [, count]) => sum + count, 0), lost }
    throw rolledBack
  })
  await expect(run).rejects.toBe(rolledBack)
  return result
}

const idOf = (message: IncomingMessage | undefined) => String(message?.headers.ce_id)

/** Takes a row away of what was noted; returns what brings it back. */
async function forget(owner: Owner, table: string, key: string) {
  const { query } = held.databases[owner]
  const { rows } = await sql<{ row: string }>`
    with gone as (delete from ${sql.table(table)} where key = ${key} returning *)
    select to_jsonb(gone)::text as row from gone`.execute(query)
  expect(rows).toHaveLength(1)
  return () =>
    sql`insert into ${sql.table(table)} select * from jsonb_populate_record(null::${sql.table(table)}, ${rows[0]?.row}::jsonb)`.execute(
      query,
    )
}

test(
  'what is archived, by runs that are killed and repeated, is whole in files, and verify goes on knowing the rest',
  async () => {
    const sku = await stock(shop, staff, 50)
    const [delivered, shipped] = [await confirmed(sku), await confirmed(sku)]
    for (const id of [delivered, shipped]) expect((await ship(id)).status).toBe(201)
    expect((await asStaff('POST', `/v1/orders/${delivered}/delivery`)).status).toBeLessThan(300)
    for (let n = 0; n < 8; n += 1) {
      const { body } = await order(shop, customer.token, sku)
      await asStaff('POST', `/v1/orders/${body.id}/cancel`, { reason: 'changed my mind' })
    }
    const { body: mailing } = await asStaff('POST', '/v1/mailings', { subject: 'News', text: 'There are some.' })
    await rest()
    await sendAgain()
    await eventually(
      'the mailing to be sent',
      async () => {
        const { body } = await asStaff('GET', `/v1/mailings/${mailing.id}`)
        return body.recipients > 0 && body.sent === body.recipients
      },
      patience,
    )
    await rest()
    const mailingBefore = (await asStaff('GET', `/v1/mailings/${mailing.id}`)).body

    await expect(archiveCommand(['--days', '27'])).rejects.toThrow(/^27 days is too young: .* set by --days;/)
    process.env.ARCHIVE_AFTER_DAYS = '27'
    await expect(archiveCommand([])).rejects.toThrow(/^27 days is too young: .* set by ARCHIVE_AFTER_DAYS;/)
    process.env.ARCHIVE_AFTER_DAYS = 'soon'
    await expect(archiveCommand([])).rejects.toThrow(/^ARCHIVE_AFTER_DAYS is a whole number of days/)
    delete process.env.ARCHIVE_AFTER_DAYS
    await expect(archiveCommand(['--yes'])).rejects.toThrow(UsageError)
    expect(command(['archive'], 0)).toMatch(/order\.order: 0 of \d+ rows are over and older than 730 days$/m)
    for (const [owner, change] of [
      ['order', `"order" set updated_at = updated_at - interval '3 years'`],
      ['inventory', `reservation set updated_at = updated_at - interval '3 years'`],
      [
        'notification',
        `notification set created_at = created_at - interval '3 years', resent_at = resent_at - interval '3 years',
           next_attempt_at = next_attempt_at - interval '3 years', sent_at = sent_at - interval '3 years'`,
      ],
    ] as const)
      await sql`update ${sql.raw(change)}`.execute(held.databases[owner].query)
    const idsOf = async (owner: Owner, table: string, id: string) =>
      (
        await sql<{ id: string }>`select ${sql.ref(id)} as id from ${sql.table(table)}`.execute(
          held.databases[owner].query,
        )
      ).rows.map((row) => row.id)
    const before = await Promise.all(archives.map((one) => idsOf(...one)))
    expect(command(['archive'], 0)).toContain('Nothing was moved')
    expect(await countWhileParked(delivered)).toBe((await countDue()) - 1)
    expect(await Promise.all(archives.map((one) => idsOf(...one)))).toEqual(before)

    const folder = join(opened.home, 'archive')
    await expect(archiveCommand(['--to', folder, '--yes'])).rejects.toThrow(Refusal)
    mkdirSync(folder)
    await sql`insert into parked_action (action, actor, details, at)
      values ('discard', 'ada', '{}', now() - interval '3 years')`.execute(held.databases.user.query)
    expect(command(['archive', '--to', folder, '--yes', '--only', 'parked_action'], 0)).toContain(
      'user.parked_action: 1 of 1 row is over and older than 730 days, now in user.parked_action.',
    )
    await killed('order', folder, 'moved')
    await killed('inventory', folder, 'on disk')
    await killed('notification', folder, 'on disk')
    expect(found(await verify(held, { settleMs: 0 }))).toEqual([])
    const moved = command(['archive', '--to', folder, '--yes', '--days', '365'], 0)
    expect(moved).toMatch(
      /notification: \d+ of \d+ rows are over and older than 365 days, now in notification\.notification\..*; 0 remain/,
    )
    expect(found(await verify(held, { settleMs: 0 }))).toEqual([])

    for (const [n, [owner, table, id]] of archives.entries()) {
      const { counted, uncounted, lines } = await archivedRows(folder, owner, table, id)
      expect([...counted, ...(await idsOf(owner, table, id))].sort()).toEqual(before[n]?.toSorted())
      expect(uncounted.length > 0).toBe(owner !== 'order')
      if (owner === 'notification') expect(lines.filter(({ resend }) => resend.length > 0).length).toBeGreaterThan(0)
    }
    expect((await asStaff('GET', `/v1/orders/${delivered}`)).status).toBe(404)
    expect((await asStaff('GET', `/v1/orders/${shipped}`)).body.status).toBe('shipped')
    expect((await asStaff('GET', `/v1/mailings/${mailing.id}`)).body).toEqual(mailingBefore)
    expect(command(['explain', delivered], 0)).toMatch(/was archived at .*: batch \d+ of order\.order\./)

    const nobodyTells = [
      expect.stringContaining('opted out of mailings'),
      expect.stringContaining('mailings that staff'),
    ]
    for (const [owner] of archives)
      expect(await caughtUp(owner)).toEqual({ adopted: 0, lost: owner === 'notification' ? nobodyTells : [] })

    const [, confirming] = await messagesOf('shop.order.v1', delivered)
    const [registration] = await messagesOf('shop.user.v1', customer.id) // whose welcome is known by the user as well
    const forgotten = [
      await forget('order', 'archived', delivered),
      await forget('notification', 'archived', idOf(confirming)),
      await forget('notification', 'archived', idOf(registration)),
      await forget('inventory', 'archived_sum', sku),
    ]
    const inInventory = held.databases.inventory.query
    await sql`insert into reservation (order_id, state, lines, sequence)
      values (${delivered}, 'reserved', ${JSON.stringify([{ sku, quantity: 1 }])}, 1)`.execute(inInventory)
    expect(found(await verify(held, { settleMs: 0 }))).toEqual([
      `missing-mail shop.order.v1 ${delivered} 2`,
      `reservation-without-order ${delivered}`,
      `stock-level ${sku}`,
      ...[1, 2, 3, 4].map((sequence) => `unknown-event shop.order.v1 ${delivered} ${sequence}`),
    ])
    for (const remember of forgotten) await remember()
    expect(found(await verify(held, { settleMs: 0, only: ['reservation-state'] }))).toEqual([
      `reservation-state ${delivered}`,
    ])
    await sql`delete from reservation where order_id = ${delivered}`.execute(inInventory)
  },
  4 * minutes,
)

/** Writes an event to the outbox of its service, as a decision does. */
async function emit(tx: Transaction, service: Owner, event: NewEvent): Promise<void> {
  const { topic, partition, key, value, headers } = outgoing(service, event)
  await sql`insert into outbox (topic, partition, key, value, headers)
    values (${topic}, ${partition}, ${key}, ${value}, ${JSON.stringify(headers)}::jsonb)`.execute(tx)
}

type Level = { sku: string; onHand: number; reserved: number; sequence: bigint }

/** Moves a stock level as a decision would, right or wrong, and raises its sequence. */
async function moveLevel(tx: Transaction, sku: string, by: { onHand?: number; reserved?: number; events?: number }) {
  const { rows } = await sql<Level>`
    update stock set on_hand = on_hand + ${by.onHand ?? 0}, reserved = reserved + ${by.reserved ?? 0},
      sequence = sequence + ${by.events ?? 1}
    where sku = ${sku} returning sku, on_hand as "onHand", reserved, sequence`.execute(tx)
  return rows[0] as Level
}

const announcement = ({ sku, onHand, reserved, sequence }: Level) => ({
  type: 'StockLevelChanged' as const,
  key: sku,
  sequence,
  data: { sku, onHand, reserved, available: onHand - reserved },
})

/** The messages of a key, in their order. */
async function messagesOf(topic: string, key: string): Promise<IncomingMessage[]> {
  const messages: IncomingMessage[] = []
  await held.bus.read({
    topics: [topic],
    toEnd: true,
    handle: (all) => void messages.push(...all.filter((message) => message.key === key)),
  })
  return messages.sort((a, b) => Number(a.offset - b.offset))
}

/** Publishes past every outbox. */
async function publish(...messages: IncomingMessage[]) {
  expect((await held.bus.publish(messages)).filter(({ error }) => error)).toEqual([])
}

interface Plant {
  what: string
  /** Plants it; returns what verify is to find of it, as `check subject`. */
  plant(): Promise<string[]>
}

/** With `stuck`, the twelve that verify must find at least, each as a bug or an accident would bring it about. */
const faults: Plant[] = [
  {
    what: 'a lost outbox row',
    async plant() {
      const sku = await stock(shop, staff, 5)
      await transaction('inventory', async (tx) => {
        const level = await moveLevel(tx, sku, {})
        await emit(tx, 'inventory', announcement(level))
        await sql`delete from outbox where key = ${sku} and headers->>'ce_sequence' = ${String(level.sequence)}`.execute(
          tx,
        )
      })
      return [`lost-event shop.stock.v1 ${sku} 2`]
    },
  },
  {
    what: 'a doubled reservation',
    async plant() {
      const sku = await stock(shop, staff, 50)
      const id = await confirmed(sku)
      await transaction('inventory', async (tx) => {
        await sql`update reservation set sequence = 2 where order_id = ${id}`.execute(tx)
        const data = { orderId: id, lines: [{ sku, quantity: 1 }] }
        await emit(tx, 'inventory', { type: 'StockReserved', key: id, sequence: 2n, data })
        await emit(tx, 'inventory', announcement(await moveLevel(tx, sku, { reserved: 1 })))
      })
      return [`repeated-step shop.reservation.v1 ${id} 4`, `stock-level ${sku}`]
    },
  },
  {
    what: 'a stock level off by one',
    async plant() {
      const sku = await stock(shop, staff, 5)
      await transaction('inventory', async (tx) => {
        await emit(tx, 'inventory', announcement(await moveLevel(tx, sku, { onHand: 1 })))
      })
      return [`stock-level ${sku}`]
    },
  },
  {
    what: 'a missing mail',
    async plant() {
      const sku = await stock(shop, staff, 50)
      const buyer = await register(shop)
      await rest()
      // As a handler would that forgets it: the message takes effect, and there is no notification.
      await sql`create function forget() returns trigger language plpgsql as 'begin return null; end'`.execute(
        held.databases.notification.query,
      )
      await sql`create trigger forget before insert on notification for each row
        when (new.user_id = ${sql.lit(buyer.id)}) execute function forget()`.execute(held.databases.notification.query)
      const { body } = await order(shop, buyer.token, sku)
      await eventually(
        'the order to be confirmed',
        async () => (await messagesOf('shop.order.v1', body.id)).length === 2,
      )
      await rest()
      await sql`drop function forget() cascade`.execute(held.databases.notification.query)
      return [`missing-mail shop.order.v1 ${body.id} 2`]
    },
  },
  {
    what: 'an extra mail',
    async plant() {
      const id = await confirmed(await stock(shop, staff, 50))
      await rest()
      const extra = newEventId()
      await sql`
        insert into notification (id, user_id, kind, cause_id, order_id, facts, subject, state)
        select ${extra}, user_id, kind, ${newEventId()}, order_id, facts, subject, 'queued'
        from notification where order_id = ${id}`.execute(held.databases.notification.query)
      return [`extra-mail ${extra}`]
    },
  },
  {
    what: 'a reservation without order',
    async plant() {
      const [id, sku] = [randomUUID(), await stock(shop, staff, 50)]
      await transaction('inventory', async (tx) => {
        const lines = [{ sku, quantity: 1 }]
        await sql`insert into reservation (order_id, state, lines, sequence)
          values (${id}, 'released', ${JSON.stringify(lines)}, 1)`.execute(tx)
        await emit(tx, 'inventory', {
          type: 'StockReleased',
          key: id,
          sequence: 1n,
          data: { orderId: id, lines, reason: 'order-cancelled' },
        })
      })
      return [`reservation-without-order ${id}`]
    },
  },
  {
    what: 'a stale replica',
    async plant() {
      const sku = await stock(shop, staff, 50)
      await changeProduct(sku, 2_000)
      const { query } = held.databases.order
      await eventually(
        'the replica to know it',
        async () => (await sql`select from product where sku = ${sku} and sequence = 2`.execute(query)).rows.length,
        patience,
      )
      await sql`update product set sequence = 1, price_amount = 1000 where sku = ${sku}`.execute(query)
      return [`stale-replica order product ${sku}`]
    },
  },
  {
    what: 'a skipped message',
    async plant() {
      const id = await confirmed(await stock(shop, staff, 50))
      await rest()
      const [placed] = (await messagesOf('shop.order.v1', id)) as [IncomingMessage]
      await sql`delete from inbox where event_id = ${String(placed.headers.ce_id)}`.execute(
        held.databases.inventory.query,
      )
      return [`skipped-message inventory shop.order.v1 ${placed.partition} ${placed.offset}`]
    },
  },
  {
    what: 'a reordered key',
    async plant() {
      const sku = await stock(shop, staff, 50)
      await transaction('inventory', async (tx) => {
        const level = await moveLevel(tx, sku, { events: 2 })
        for (const sequence of [3n, 2n]) await emit(tx, 'inventory', announcement({ ...level, sequence }))
      })
      return [`reordered-key shop.stock.v1 ${sku} 3`]
    },
  },
  {
    what: 'an orphaned parked message',
    async plant() {
      const id = await confirmed(await stock(shop, staff, 50))
      const [{ partition, offset }] = (await messagesOf('shop.reservation.v1', id)) as [IncomingMessage]
      await sql`
        insert into parked_message (event_id, topic, partition, "offset", key, bytes, headers, state, blocks, next_attempt_at)
        values (${newEventId()}, 'shop.reservation.v1', ${partition}, ${offset}, ${randomUUID()}, 'none', '{}', 'dead', false, null)
      `.execute(held.databases.order.query)
      return [`orphaned-parked-message order shop.reservation.v1 ${partition} ${offset}`]
    },
  },
  {
    what: 'an event that was changed when it was published again, and one that nobody can read, twice',
    async plant() {
      const id = await confirmed(await stock(shop, staff, 50))
      const [placed] = (await messagesOf('shop.order.v1', id)) as [IncomingMessage]
      const data = decode(placed.value as Buffer).data as NewEventData<'OrderPlaced'>
      await publish({ ...placed, value: encode('OrderPlaced', { ...data, placedAt: new Date(0) }) })
      const other = await confirmed(await stock(shop, staff, 50))
      const [unread] = (await messagesOf('shop.order.v1', other)) as [IncomingMessage]
      const headers = { ...unread.headers, ce_id: newEventId() }
      const cut = { ...unread, headers, value: (unread.value as Buffer).subarray(0, -1) }
      await publish(cut, cut) // the repeat of what is dead is no skipped message
      const content = `event-content shop.order.v1 ${other} 1`
      return [`changed-event ${placed.headers.ce_id}`, `conflicting-events shop.order.v1 ${other} 1`, content, content]
    },
  },
  {
    what: 'an event that was changed before it was published',
    async plant() {
      const sku = await stock(shop, staff, 50)
      await transaction('inventory', async (tx) => {
        const level = await moveLevel(tx, sku, {})
        await emit(tx, 'inventory', announcement({ ...level, onHand: level.onHand + 1 }))
      })
      return [`event-content shop.stock.v1 ${sku} 2`]
    },
  },
]

/** For the checks that those do not meet. Some are several faults at once. */
const others: Plant[] = [
  {
    what: 'bytes that cannot be read in a topic that nobody consumes, and a bomb that a group has stepped over',
    async plant() {
      const partition = 2
      const foreign = openForeignProducer(shop.kafka.brokers)
      try {
        const bomb = encodeBatch({ codec: 1, compress: gzipSync, records: [{ value: Buffer.alloc(20_971_520) }] })
        for (const topic of ['shop.stock.v1', 'shop.reservation.v1']) await foreign.write(topic, partition, bomb)
      } finally {
        await foreign.close()
      }
      const met = await eventually(
        'the order service to stand before it',
        async () => (await listUnreadable(held.databases.order.query))[0],
        patience,
      )
      const place = { topic: met.topic, partition: met.partition, offset: met.firstOffset }
      await stepOver(held.databases.order.query, { ...place, actor: 'ada', reason: 'a test' })
      await rest()
      const stretches: string[] = []
      await held.bus.read({
        topics: ['shop.stock.v1', 'shop.reservation.v1'],
        toEnd: true,
        handle() {},
        unreadable: ({ topic, firstOffset }) => void stretches.push(`${topic} ${partition} ${firstOffset}`),
      })
      expect(stretches).toHaveLength(2)
      return stretches.map((stretch) => `unreadable-records ${stretch}`)
    },
  },
  {
    what: 'a reservation that is gone',
    async plant() {
      const sku = await stock(shop, staff, 50)
      const id = await confirmed(sku)
      await rest()
      await sql`delete from reservation where order_id = ${id}`.execute(held.databases.inventory.query)
      return [`order-without-reservation ${id}`, `unknown-event shop.reservation.v1 ${id} 1`, `stock-level ${sku}`]
    },
  },
  {
    what: 'an order that has forgotten what inventory said',
    async plant() {
      const id = await confirmed(await stock(shop, staff, 50))
      await rest()
      await sql`update "order" set status = 'pending' where id = ${id}`.execute(held.databases.order.query)
      return [`order-undecided ${id}`, `event-content shop.order.v1 ${id} 2`]
    },
  },
  {
    what: 'a reservation in the wrong state',
    async plant() {
      const sku = await stock(shop, staff, 50)
      const id = await confirmed(sku)
      await rest()
      await sql`update reservation set state = 'sold' where order_id = ${id}`.execute(held.databases.inventory.query)
      return [`reservation-state ${id}`, `event-content shop.reservation.v1 ${id} 1`, `stock-level ${sku}`]
    },
  },
  {
    what: 'an order of something else than what is reserved',
    async plant() {
      const id = await confirmed(await stock(shop, staff, 50))
      await rest()
      await sql`update "order" set lines = jsonb_set(lines, '{0,quantity}', '2') where id = ${id}`.execute(
        held.databases.order.query,
      )
      return [`reservation-lines ${id}`, `event-content shop.order.v1 ${id} 1`, `event-content shop.order.v1 ${id} 2`]
    },
  },
  {
    what: 'events that nobody has decided, twice with the same sequence',
    async plant() {
      const [key, sku] = [`sku-${randomUUID()}`, await stock(shop, staff, 5)]
      await rest()
      const known = announcement({ sku, onHand: 5, reserved: 0, sequence: 1n })
      const messages = [announcement({ sku: key, onHand: 5, reserved: 0, sequence: 1n }), known]
      await publish(...messages.map((event) => ({ ...outgoing('inventory', event), offset: 0n })))
      return [`unknown-event shop.stock.v1 ${key} 1`, `conflicting-events shop.stock.v1 ${sku} 1`]
    },
  },
  {
    what: 'events of others: of a producer that is listed, of keys that are not its own, of none that is; and no events',
    async plant() {
      const id = randomUUID()
      const listing = (sku: string, source: string | null): IncomingMessage => {
        const price = { amount: 100n, currency: 'EUR' }
        const data = { sku, name: 'A pot', description: 'Of iron.', price, version: 1 }
        const event = outgoing('inventory', { type: 'ProductListed', key: sku, sequence: 1n, data })
        const { ce_source: _, ...headers } = event.headers
        return { ...event, headers: { ...headers, ...(source && { ce_source: source }) }, offset: 0n }
      }
      const garbage = { topic: 'shop.stock.v1', partition: 0, offset: 0n, key: 'none', value: Buffer.from('none') }
      await publish(
        listing(`ERP-${id}`, '/erp/price-list'),
        listing(`none-${id}`, '/erp/price-list'),
        listing(`ERP-forged-${id}`, '/shopstream/inventory'),
        listing(`ERP-stranger-${id}`, '/stranger'),
        listing(`ERP-nobody-${id}`, null),
        ...Array.from({ length: 6 }, () => ({ ...garbage, headers: {} })),
      )
      return ['none', 'ERP-forged', 'ERP-stranger', 'ERP-nobody'].map(
        (name) => `unknown-event shop.product.v1 ${name}-${id} 1`,
      )
    },
  },
  {
    what: 'an old state or a tombstone that was published behind the new state, and bytes that nobody can read',
    async plant() {
      const [sku, gone] = [await stock(shop, staff, 5), await stock(shop, staff, 5)]
      const unread = await stock(shop, staff, 5)
      await changeProduct(sku, 3_000)
      await rest()
      const [listed] = (await messagesOf('shop.product.v1', sku)) as [IncomingMessage]
      const [forgotten] = (await messagesOf('shop.product.v1', gone)) as [IncomingMessage]
      await publish(listed, { ...forgotten, value: null, headers: {} })
      await transaction('inventory', async (tx) => {
        await emit(tx, 'inventory', announcement(await moveLevel(tx, unread, {})))
        await sql`update outbox set value = 'none' where key = ${unread}`.execute(tx)
      })
      return [
        ...[sku, gone].map((key) => `outdated-record shop.product.v1 ${key}`),
        `event-content shop.stock.v1 ${unread} 2`,
      ]
    },
  },
  {
    what: 'a message that has vanished from its topic',
    async plant() {
      const [event, id] = [newEventId(), await confirmed(await stock(shop, staff, 50))]
      await rest()
      const [{ partition, offset }] = (await messagesOf('shop.order.v1', id)) as [IncomingMessage]
      await sql`insert into inbox (event_id, topic, partition, "offset")
        values (${event}, 'shop.order.v1', ${partition}, ${offset})`.execute(held.databases.inventory.query)
      return [`vanished-message inventory ${event}`]
    },
  },
  {
    what: 'a mailing that has missed somebody, one that somebody wants none of, and a mail that nobody was told of',
    async plant() {
      const { id: user } = await register(shop)
      await rest()
      const { query } = held.databases.notification
      const { rows } = await sql<{ id: string }>`
        update notification set sequence = 0 where user_id = ${user} returning id`.execute(query)
      const mailing = randomUUID()
      await sql`insert into mailing (id, subject, text, created_by, filled_at, recipients)
        values (${mailing}, 'News', 'None', ${user}, now(), 1)`.execute(query)
      const id = rows[0]?.id
      // As a filler would that overlooks the choice.
      const [unwanted, other] = [randomUUID(), randomUUID()]
      await sql`update recipient set opted_out_at = now() - interval '1 hour' where user_id = ${user}`.execute(query)
      await sql`insert into mailing (id, subject, text, created_by, filled_at, recipients)
        values (${other}, 'News', 'None', ${user}, now(), 1)`.execute(query)
      await sql`insert into notification (id, user_id, kind, lane, cause_id, mailing_id, facts, subject, state)
        values (${unwanted}, ${user}, 'mailing', 'bulk', ${randomUUID()}, ${other}, '{}', 'News', 'sent')`.execute(
        query,
      )
      return [
        `mailing-recipients ${mailing}`,
        `unwanted-mailing ${unwanted}`,
        ...[id, unwanted].map((one) => `unannounced-mail ${one}`),
        `unknown-event shop.notification.v1 ${id} 1`,
      ]
    },
  },
]

/** Last, because inventory and the order service stand still from then on. */
const stuck: Plant = {
  what: 'a stuck order',
  async plant() {
    const sku = await stock(shop, staff, 50)
    await confirmed(sku)
    await rest()
    shop.services.inventory?.kill('SIGSTOP')
    const { body } = await order(shop, customer.token, sku)
    await eventually('it to be published', async () => (await messagesOf('shop.order.v1', body.id)).length === 1)
    shop.services.order?.kill('SIGSTOP')
    const late = await eventually(
      'the order service to hold no lock',
      () =>
        sql`update "order" set reservation_deadline = now() - interval '10 minutes' where id = ${body.id}`
          .execute(held.databases.order.query)
          .catch(() => undefined),
      patience,
    )
    expect(late).toBeDefined()
    return [`order-overdue ${body.id}`]
  },
}

test(
  'finds each of the planted faults and nothing else, and says so to whoever calls it',
  async () => {
    const expected: string[] = []
    for (const { plant } of [...faults, ...others]) expected.push(...(await plant()))
    await rest()
    expected.push(...(await stuck.plant()))
    const summary = await verify(held, { settleMs: 1_000 })
    expect(found(summary)).toEqual(expected.toSorted())
    const unfound = summary.checks.filter(({ discrepancies }) => discrepancies === 0)
    expect(unfound.map(({ name }) => name)).toEqual(['undelivered-event']) // this shop has no bridges: verify/bridges.test.ts

    const told = summary.checks.flatMap(({ findings }) => findings.map(({ message }) => message))
    const time = '\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z'
    for (const [name, writer] of [
      ['ERP-forged', `by /shopstream/inventory at ${time}`],
      ['ERP-stranger', `by /stranger at ${time}`],
      ['ERP-nobody', `without a ce_source at ${time}`],
    ])
      expect(told).toContainEqual(
        expect.stringMatching(new RegExp(`^event 1 of ${name}-.*; written: shop\\.product\\.v1/\\d@\\d+ ${writer}$`)),
      )
    const twice = `[-0-9a-f]{36} as shop\\.stock\\.v1/\\d@\\d+ by /shopstream/inventory at ${time}`
    expect(told).toContainEqual(
      expect.stringMatching(new RegExp(`is there as two events, .*; written: ${twice}, ${twice}$`)),
    )
    const [strays] = summary.strays.filter(({ topic }) => topic === 'shop.stock.v1')
    expect(strays).toMatchObject({ records: 6, first: { length: 5 } })
    const garbage = { why: 'header ce_id is no UUID', source: null, writtenAt: expect.any(Date) }
    expect(strays?.first).toContainEqual(expect.objectContaining(garbage))

    const inWords = command(['verify', '--settle', '0', '--limit', '1'], 1)
    expect(inWords).toContain(
      'Note: shop.stock.v1 has 6 records that are no events; consumers park them or pass them by:',
    )
    expect(inWords).toContain('  and 1 more\n      npm run shop -- dead-letters list --topic shop.stock.v1 --state all')
    expect(inWords).toContain(`${expected.length} discrepancies.`)
    expect(inWords).toContain('docs/runbooks/order-overdue.md')
    expect(found(JSON.parse(command(['verify', '--settle', '0', '--json'], 1)))).toEqual(expected.toSorted())
    const alone = JSON.parse(command(['verify', '--settle', '0', '--json', '--only', 'order-overdue'], 1))
    expect(alone).toMatchObject({
      discrepancies: 1,
      checks: [{ name: 'order-overdue', runbook: 'docs/runbooks/order-overdue.md', rows: expect.any(Number) }],
    })
  },
  6 * minutes,
)

test('exits with 2 for what makes no sense, and when a part cannot be asked: then nothing is proven', async () => {
  expect(command(['verify', '--help'], 0)).toMatch(/^Usage: npm run shop -- verify/)
  command(['verify', '--bogus'], 2)
  for (const args of [
    ['--only', 'no-such-check'],
    ['--settle', 'soon'],
  ])
    await expect(run(args)).rejects.toThrow(UsageError)
  const { databaseUrls } = held
  const none = new URL(databaseUrls.order)
  none.pathname += '-none'
  const away = await reach({ ...held, databaseUrls: { ...databaseUrls, order: none.href } })
  try {
    await expect(verify(away)).rejects.toThrow(/^the database of order: .*does not exist/)
    await expect(verify(away, { only: ['extra-mail'], settleMs: 0 })).resolves.toMatchObject({ discrepancies: 1 })
  } finally {
    await away.close()
  }
  command(['verify'], 2, { SHOPSTREAM_HOME: `${opened.home}-none` })
})
