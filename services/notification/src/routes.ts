import type { Database } from '@shopstream/database'
import { page, type Route, reply, route } from '@shopstream/http'
import { Type } from 'typebox'
import { errors } from './errors.ts'
import { type ListedNotification, listNotifications } from './listing/queries.ts'
import type { Tables } from './tables.ts'

const uuid = Type.String({ format: 'uuid' })
const time = Type.String({ format: 'date-time' })
const orNull = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])

const notification = Type.Object({
  id: uuid,
  kind: Type.Enum(['welcome', 'confirmed', 'rejected', 'shipped', 'cancelled']),
  to: orNull(Type.String({ description: 'Null while the address is not known, and once the user is erased.' })),
  subject: Type.String(),
  causeId: Type.String({ description: 'The event that caused it.' }),
  orderId: Type.Optional(uuid),
  state: Type.Enum(['awaiting-recipient', 'queued', 'sent', 'failed', 'cancelled']),
  attempts: Type.Integer(),
  createdAt: time,
  sentAt: orNull(time),
})

/** The HTTP routes of the notification service. */
export const routes = ({ database }: { database: Database<Tables> }): Route[] => [
  route({
    method: 'GET',
    url: '/v1/notifications',
    summary: 'What was sent, to whom, and why; your own, or as staff all',
    access: 'user',
    schema: {
      query: Type.Object({
        ...page.query,
        userId: Type.Optional(Type.String({ format: 'uuid', description: 'Of this user only; for staff.' })),
      }),
      response: { 200: page.list(notification) },
    },
    handle: async ({ query, user, isStaff }) => {
      const { limit, userId, cursor } = query
      if (!isStaff && userId !== undefined && userId.toLowerCase() !== user.id) throw errors['staff-only']()
      const [after] = page.decodeCursor(cursor, ['uuid']) ?? []
      const whose = isStaff ? userId : user.id
      const rows = await listNotifications(database.query, { userId: whose, after, limit: limit + 1 })
      return reply.ok(page.of(rows, limit, viewOf, ({ id }) => [id]))
    },
  }),
]

const viewOf = ({ orderId, createdAt, sentAt, ...rest }: ListedNotification) => ({
  ...rest,
  ...(orderId !== null && { orderId }),
  createdAt: createdAt.toISOString(),
  sentAt: sentAt?.toISOString() ?? null,
})
