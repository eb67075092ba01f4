import { ConfigError, dataSettings, type Static, serviceSettings, settings, Type } from '@shopstream/config'
import { parseRegistration, type Registration } from './accounts/account.ts'

/** The environment of the user service. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  KEY_ENCRYPTION_SECRET: settings.secret('under which the private signing keys in the database are encrypted', {
    minLength: 32,
  }),
  /** With STAFF_PASSWORD: an account with the role `staff`, made at start, or given this password. */
  STAFF_EMAIL: Type.Optional(
    settings.text('the address of a staff account to be made', { example: 'staff@example.com' }),
  ),
  STAFF_PASSWORD: Type.Optional(settings.secret('the password of that account', { minLength: 12 })),
  ACCESS_TOKEN_SECONDS: settings.integer(900, { min: 5, max: 86_400 }),
  REFRESH_TOKEN_DAYS: settings.integer(30, { min: 1, max: 365 }),
  /** How long a key signs before the next one takes over. */
  SIGNING_KEY_DAYS: settings.integer(30, { min: 1, max: 365 }),
  /** How long before its first use a key is published, so that every service knows it by then. */
  SIGNING_KEY_LEAD_SECONDS: settings.integer(600, { min: 1, max: 86_400 }),
})

export type Config = Static<typeof configSchema>

/** The staff account to be made, if any. Throws {@link ConfigError} when its settings do not make an account. */
export function staffOf({ STAFF_EMAIL: email, STAFF_PASSWORD: password }: Config): Registration | undefined {
  if (email === undefined && password === undefined) return undefined
  if (email === undefined || password === undefined) {
    throw new ConfigError(['STAFF_EMAIL and STAFF_PASSWORD belong together: set both or none'])
  }
  const parsed = parseRegistration({ email, password, displayName: 'Staff' })
  if (!('problems' in parsed)) return parsed
  throw new ConfigError(parsed.problems.map(({ field, message }) => `STAFF_${field.toUpperCase()} ${message}`))
}

/** What the schema cannot say, for whoever judges an environment before the service is started. */
export const checkConfig = staffOf
