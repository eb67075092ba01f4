import { createDatabase, type Database, migrate, readMigrations, sql } from '@shopstream/database'
import { type EventTypes, newEventId } from '@shopstream/events'
import { type AnyNewEvent, messagingMigrations } from '@shopstream/messaging'
import { eventually, testDatabase, testLogger, type World } from '@shopstream/testing'
import { buildNotification } from './app.ts'
import { type SendingPolicy, sendingPolicy } from './sending/policy.ts'
import type { Tables } from './tables.ts'

/** The pauses of a patient service, shortened for people who wait for tests. */
const hurried: SendingPolicy = {
  ...sendingPolicy,
  pollMs: 100,
  unreachable: { baseMs: 20, maxMs: 100 },
  deferred: { baseMs: 20, maxMs: 100, attempts: 60 },
  refused: { baseMs: 20, maxMs: 100, attempts: 3 },
  unknown: { baseMs: 20, maxMs: 100, attempts: 3 },
}

/** Starts a notification service in a world of its own, and gives calls to its declared routes. */
export async function startNotification(world: World, smtpUrl: string, policy: Partial<SendingPolicy> = {}) {
  const config = {
    ...world.settings,
    SMTP_URL: smtpUrl,
    SMTP_ANSWER_TIMEOUT_SECONDS: 600,
    PUBLIC_URL: 'https://shop.example.org/',
    MAIL_FROM: 'shopstream <shop@example.com>',
  }
  const service = await buildNotification(config, world.logger, { ...hurried, ...policy })
  await service.start()
  const staff = await world.token({ id: newEventId(), roles: ['customer', 'staff'] })
  return {
    stop: () => service.stop(),
    async get(url: string, token = staff) {
      const { statusCode, payload } = await service.http.inject({ url, headers: { authorization: `Bearer ${token}` } })
      return { status: statusCode, body: payload.startsWith('{') ? JSON.parse(payload) : payload }
    },
    async post(url: string, payload: object, token = staff) {
      const headers = { authorization: `Bearer ${token}` }
      const answer = await service.http.inject({ method: 'POST', url, payload, headers })
      return { status: answer.statusCode, headers: answer.headers, body: answer.json() }
    },
    /** Any request, without a token. */
    ask: (request: {
      method: 'GET' | 'POST' | 'PUT'
      url: string
      headers?: Record<string, string>
      payload?: string
    }) => service.http.inject(request),
    /** What is listed of a user, oldest first. */
    async notificationsOf(userId: string) {
      const { body } = await this.get(`/v1/notifications?limit=100&userId=${userId}`)
      return body.items.toReversed() as Listed[]
    },
  }
}

/** As {@link startNotification}, ready; it is stopped with the other steps of `undo`. */
export async function startReady(undo: (() => Promise<void>)[], ...options: Parameters<typeof startNotification>) {
  const service = await startNotification(...options)
  undo.push(service.stop)
  await eventually('readiness', async () => (await service.get('/readyz')).status === 200)
  return service
}

export type TestNotification = Awaited<ReturnType<typeof startNotification>>

export interface Listed {
  id: string
  kind: string
  to: string | null
  subject: string
  causeId: string
  orderId?: string
  state: string
  attempts: number
  /** What the last attempt said, of one that failed. */
  reason?: string
  createdAt: string
  sentAt: string | null
  mailingId?: string
  resends?: number
}

/** The tables of this service alone, for what can only be seen by two transactions at once. */
export async function openTestTables() {
  const { url, drop } = await testDatabase('tables')
  const logger = testLogger()
  const database = createDatabase<Tables>({ url, poolSize: 8, applicationName: 'test-tables', logger })
  await migrate(database, [...messagingMigrations, ...readMigrations('notification', import.meta.url)])
  return {
    database,
    async close() {
      await database.close()
      await drop()
    },
  }
}

export type TestTables = Awaited<ReturnType<typeof openTestTables>>

/** Writes `count` users that no event told of, `known-1@example.com` and so on, as if they had been read long ago. */
export async function insertRecipients(query: Database<Tables>['query'], count: number): Promise<void> {
  await sql`
    insert into recipient (user_id, email, sequence)
    select gen_random_uuid(), 'known-' || n || '@example.com', 1 from generate_series(1, ${count}::integer) n
  `.execute(query)
}

let people = 0

/** A user whose events can be published. */
export function person(displayName = 'Ana', email = `p${++people}@example.com`) {
  const userId = newEventId()
  const event = <N extends 'UserRegistered' | 'UserProfileChanged' | 'UserErased'>(
    type: N,
    sequence: bigint,
    data: EventTypes[N],
  ) => ({ type, key: userId, sequence, data }) as AnyNewEvent<N>
  const profile = { userId, email, displayName, roles: ['customer'], registeredAt: new Date() }
  return {
    userId,
    email,
    registered: () => event('UserRegistered', 1n, profile),
    moved: (to: string) => event('UserProfileChanged', 2n, { ...profile, email: to }),
    erased: () => event('UserErased', 3n, { userId, erasedAt: new Date() }),
  }
}

const money = (amount: bigint) => ({ amount, currency: 'EUR' })

/** An order of two teas, and its events. */
export function orderOf(userId: string) {
  const orderId = newEventId()
  const ids = { orderId, userId }
  const now = new Date()
  const lines = [{ sku: 'tea', quantity: 2, unitPrice: money(625n) }]
  return {
    orderId,
    confirmed: (): AnyNewEvent<'OrderConfirmed'> => ({
      type: 'OrderConfirmed',
      key: orderId,
      sequence: 2n,
      data: { ...ids, lines, total: money(1250n), confirmedAt: now },
    }),
    rejected: (): AnyNewEvent<'OrderRejected'> => ({
      type: 'OrderRejected',
      key: orderId,
      sequence: 2n,
      data: { ...ids, shortages: [{ sku: 'tea', requested: 2, available: 1 }], rejectedAt: now },
    }),
    shipped: (): AnyNewEvent<'OrderShipped'> => ({
      type: 'OrderShipped',
      key: orderId,
      sequence: 3n,
      data: { ...ids, carrier: 'Post & Sons', trackingNumber: 'RR123', shippedAt: now },
    }),
    cancelled: (): AnyNewEvent<'OrderCancelled'> => ({
      type: 'OrderCancelled',
      key: orderId,
      sequence: 3n,
      data: { ...ids, reason: '<b>too late</b>', cancelledAt: now },
    }),
  }
}
