import type { Database, Transaction } from '@shopstream/database'
import { line, lines, page, type Route, reply, route } from '@shopstream/http'
import { childOf, currentTrace, formatTraceparent } from '@shopstream/observability'
import { Type } from 'typebox'
import { errors } from './errors.ts'
import { type ListedNotification, listNotifications } from './listing/queries.ts'
import { chooseMailings, confirmationPage, type OptOutLinks, optedOutPage, wantsMailings } from './mailings/opt-out.ts'
import { findMailing, insertMailing, type MailingProgress } from './mailings/queries.ts'
import { lockNotification, resend } from './resending/queries.ts'
import type { Tables } from './tables.ts'

const uuid = Type.String({ format: 'uuid' })
const time = Type.String({ format: 'date-time' })
const orNull = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])

const notification = Type.Object({
  id: uuid,
  kind: Type.Enum(['welcome', 'confirmed', 'rejected', 'shipped', 'cancelled', 'mailing']),
  to: orNull(Type.String({ description: 'Null while the address is not known, and once the user is erased.' })),
  subject: Type.String(),
  causeId: Type.String({ description: 'The event that caused it; of a mailing, an id of its own for each recipient.' }),
  orderId: Type.Optional(uuid),
  mailingId: Type.Optional(uuid),
  resends: Type.Optional(Type.Integer({ description: 'How often staff had it sent again.' })),
  state: Type.Enum(['awaiting-recipient', 'queued', 'sent', 'failed', 'cancelled']),
  attempts: Type.Integer(),
  reason: Type.Optional(
    Type.String({
      description:
        'What came of the last attempt, if it failed, such as `SMTP 550 5.1.1 at RCPT TO`. `outcome unknown: …`: the mail may have arrived.',
    }),
  ),
  createdAt: time,
  sentAt: orNull(time),
})

const mailing = Type.Object({
  id: uuid,
  subject: Type.String(),
  text: Type.String(),
  createdBy: Type.String(),
  createdAt: time,
  state: Type.Enum(['filling', 'sending', 'done'], { description: 'While it is filling, recipients grow.' }),
  recipients: Type.Integer({ description: 'Users whose mail is queued or has been tried.' }),
  sent: Type.Integer(),
  failed: Type.Integer(),
  cancelled: Type.Integer({ description: 'Of users who were erased, or opted out, meanwhile.' }),
})
const byId = Type.Object({ id: uuid })

const preferences = Type.Object({ mailings: Type.Boolean({ description: 'Whether you want mailings.' }) })
const optOut = {
  url: '/v1/mailings/opt-out/:token',
  params: Type.Object({ token: Type.String({ pattern: '^[\\w-]{43}$', description: 'Of the link in a mailing.' }) }),
  page: Type.String({ description: 'A page for people.' }),
}
const asPage = { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' }

/** The HTTP routes of the notification service. */
export const routes = ({ database, links }: { database: Database<Tables>; links: OptOutLinks }): Route[] => [
  ...notificationRoutes(database),
  ...preferenceRoutes(database),
  ...optOutRoutes(links),
  ...mailingRoutes(database),
]

const notificationRoutes = (database: Database<Tables>): Route[] => [
  route({
    method: 'GET',
    url: '/v1/notifications',
    operationId: 'listNotifications',
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
  route({
    method: 'POST',
    url: '/v1/notifications/:id/resend',
    operationId: 'resendNotification',
    summary: 'Send a mail again that was sent or has failed; who asked for it is kept',
    access: 'staff',
    schema: { params: byId, response: { 202: Type.Object({ id: uuid, state: notification.properties.state }) } },
    handle: async ({ params: { id }, user, effect }) =>
      effect(async (tx: Transaction<Tables>) => {
        const found = await lockNotification(tx, id)
        if (!found) throw errors['notification-not-found']()
        if (found.state !== 'sent' && found.state !== 'failed') throw errors['not-resendable']()
        if (found.email === null) throw errors['no-recipient']()
        if (found.kind === 'mailing' && found.hasOptedOut) throw errors['opted-out']()
        await resend(tx, found, user.id)
        return reply.accepted({ id: found.id, state: 'queued' as const })
      }),
  }),
]

const preferenceRoutes = (database: Database<Tables>): Route[] => [
  route({
    method: 'GET',
    url: '/v1/notifications/preferences',
    operationId: 'getNotificationPreferences',
    summary: 'Which mails you get besides those about your orders and your account',
    access: 'user',
    schema: { response: { 200: preferences } },
    handle: async ({ user }) => reply.ok({ mailings: await wantsMailings(database, user.id) }),
  }),
  route({
    method: 'PUT',
    url: '/v1/notifications/preferences',
    operationId: 'setNotificationPreferences',
    summary: 'Choose which mails you get',
    access: 'user',
    schema: { body: preferences, response: { 200: preferences } },
    handle: async ({ body, user, effect }) =>
      effect(async (tx: Transaction<Tables>) => {
        await chooseMailings(tx, user.id, body.mailings)
        return reply.ok(body)
      }),
  }),
]

const optOutRoutes = (links: OptOutLinks): Route[] => [
  route({
    method: 'GET',
    url: optOut.url,
    operationId: 'getMailingOptOut',
    summary: 'The page behind the link of a mailing; asks whether to opt out',
    access: 'anyone',
    page: true,
    schema: { params: optOut.params, response: { 200: optOut.page } },
    handle: async ({ params: { token } }) => {
      if (links.userOf(token) === undefined) throw errors['opt-out-link-invalid']()
      return reply.ok(confirmationPage, asPage)
    },
  }),
  route({
    method: 'POST',
    url: optOut.url,
    operationId: 'optOutOfMailings',
    summary: 'Opt out of mailings by one click (RFC 8058), without a login',
    access: 'anyone',
    page: true,
    schema: {
      params: optOut.params,
      body: Type.Object({ 'List-Unsubscribe': Type.Literal('One-Click') }),
      response: { 200: optOut.page },
    },
    handle: async ({ params: { token }, effect }) =>
      effect(async (tx: Transaction<Tables>) => {
        const userId = links.userOf(token)
        if (userId === undefined) throw errors['opt-out-link-invalid']()
        await chooseMailings(tx, userId, false)
        return reply.ok(optedOutPage, asPage)
      }),
  }),
]

const mailingRoutes = (database: Database<Tables>): Route[] => [
  route({
    method: 'POST',
    url: '/v1/mailings',
    operationId: 'createMailing',
    summary: 'Mail a text to all users, behind every other mail',
    access: 'staff',
    sheds: true,
    schema: { body: Type.Object({ subject: line(200), text: lines(20_000) }), response: { 202: mailing } },
    handle: async ({ body: { subject, text }, user, effect }) =>
      effect(async (tx: Transaction<Tables>) => {
        const traceparent = formatTraceparent(childOf(currentTrace()))
        const id = await insertMailing(tx, { subject, text, createdBy: user.id, traceparent })
        const made = (await findMailing(tx, id)) as MailingProgress
        return reply.accepted(mailingView(made), `/v1/mailings/${id}`)
      }),
  }),
  route({
    method: 'GET',
    url: '/v1/mailings/:id',
    operationId: 'getMailing',
    summary: 'How far a mailing has come',
    access: 'staff',
    schema: { params: byId, response: { 200: mailing } },
    handle: async ({ params: { id } }) => {
      const found = await findMailing(database.query, id)
      if (!found) throw errors['mailing-not-found']()
      return reply.ok(mailingView(found))
    },
  }),
]

const viewOf = ({ orderId, mailingId, resends, reason, createdAt, sentAt, ...rest }: ListedNotification) => ({
  ...rest,
  ...(reason !== null && { reason }),
  ...(orderId !== null && { orderId }),
  ...(mailingId !== null && { mailingId }),
  ...(resends > 0 && { resends }),
  createdAt: createdAt.toISOString(),
  sentAt: sentAt?.toISOString() ?? null,
})

const mailingView = ({ createdAt, filledAt, ...rest }: MailingProgress) => {
  const isThrough = rest.sent + rest.failed + rest.cancelled >= rest.recipients
  const state = filledAt === null ? ('filling' as const) : isThrough ? ('done' as const) : ('sending' as const)
  return { ...rest, createdAt: createdAt.toISOString(), state }
}
