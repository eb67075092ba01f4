/** What of the services runs beside them, or is told to Postgres without them. */
export type { Cause } from '../../../services/notification/src/notifications/cause.ts'
export type { Recipient } from '../../../services/notification/src/tables.ts'

/** Loaded when they are measured: each takes half a second. */
export const loadInventory = async () => ({
  ...(await import('../../../services/inventory/src/app.ts')),
  ...(await import('../../../services/inventory/src/config.ts')),
})
export const loadMails = async () => ({
  ...(await import('../../../services/notification/src/notifications/queries.ts')),
  ...(await import('../../../services/notification/src/mails/mail.ts')),
})

/** The bridge's `forms/index.ts`. */
export const loadForms = () => import('../../../services/bridge/src/forms/index.ts')
