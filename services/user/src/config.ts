import { ConfigError, dataSettings, type Static, serviceSettings, settings, Type } from '@shopstream/config'
import { parseRegistration, type Registration } from './accounts/account.ts'
import type { Limits } from './limits/limit.ts'

const uses = (defaultValue: number) => settings.integer(defaultValue, { min: 1, max: 1_000_000 })
const withinSeconds = (defaultValue: number) => settings.integer(defaultValue, { min: 1, max: 86_400 })

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
  /** Registrations from one IPv4 address or IPv6 network of 64 bits, and in all, within REGISTRATIONS_SECONDS. */
  REGISTRATIONS_PER_ADDRESS: uses(10_000),
  REGISTRATIONS_IN_ALL: uses(100_000),
  REGISTRATIONS_SECONDS: withinSeconds(3_600),
  /** Wrong passwords for one account, and from one address, within LOGIN_FAILURES_SECONDS. */
  LOGIN_FAILURES_PER_ACCOUNT: uses(20),
  LOGIN_FAILURES_PER_ADDRESS: uses(1_000),
  LOGIN_FAILURES_SECONDS: withinSeconds(600),
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

export function limitsOf(config: Config): Limits {
  const registering = { seconds: config.REGISTRATIONS_SECONDS }
  const failing = { seconds: config.LOGIN_FAILURES_SECONDS }
  return {
    registrationsOfClient: { name: 'registrations of client', count: config.REGISTRATIONS_PER_ADDRESS, ...registering },
    registrations: { name: 'registrations', count: config.REGISTRATIONS_IN_ALL, ...registering },
    failuresOfAccount: { name: 'failures of account', count: config.LOGIN_FAILURES_PER_ACCOUNT, ...failing },
    failuresOfOwner: { name: 'failures of owner', count: config.LOGIN_FAILURES_PER_ACCOUNT, ...failing },
    failuresOfClient: { name: 'failures of client', count: config.LOGIN_FAILURES_PER_ADDRESS, ...failing },
  }
}

/** What the schema cannot say, for whoever judges an environment before the service is started. */
export const checkConfig = staffOf
