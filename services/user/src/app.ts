import { readMigrations } from '@shopstream/database'
import { createDataService } from '@shopstream/http'
import { Gauge, type Logger, type Registry } from '@shopstream/observability'
import { normaliseEmails } from './accounts/normalise-emails.ts'
import { createPasswords, type Passwords } from './accounts/passwords.ts'
import { seedStaff } from './accounts/seed-staff.ts'
import { type Config, limitsOf, staffOf } from './config.ts'
import { consumes } from './consumes.ts'
import { every } from './periodic.ts'
import { produces } from './produces.ts'
import { routes } from './routes.ts'
import { createKeyring, type Keyring } from './signing-keys/keyring.ts'
import { deleteEnded } from './sweeping.ts'
import type { Tables } from './tables.ts'

const secondMs = 1_000
const dayMs = 86_400 * secondMs
const sweepMs = 600 * secondMs

/** Builds the user service from its settings; nothing is connected before `start`. */
export async function buildUser(config: Config, logger: Logger) {
  const staff = staffOf(config)
  return createDataService<Tables>({
    service: 'user',
    title: 'shopstream: users and sessions',
    tags: { users: 'Accounts of customers and staff.', sessions: 'Logins and their tokens.' },
    config,
    logger,
    consumes,
    produces,
    migrations: readMigrations('user', import.meta.url),
    async parts({ database, metrics }) {
      const settings = keySettings(config)
      const keyring = createKeyring({ database, secret: config.KEY_ENCRYPTION_SECRET, settings, logger })
      const passwords = await createPasswords()
      measurePasswords(metrics, passwords)
      measureKeys(metrics, keyring)
      const tokens = {
        accessTokenSeconds: config.ACCESS_TOKEN_SECONDS,
        refreshTokenDays: config.REFRESH_TOKEN_DAYS,
        signer: keyring.signer,
      }
      return {
        routes: routes({ database, passwords, tokens, limits: limitsOf(config) }),
        keys: keyring.store,
        async begin() {
          await keyring.start()
          await normaliseEmails(database, logger)
          if (staff) await seedStaff({ database, passwords }, staff, logger)
          const sweep = (stop: AbortSignal) => deleteEnded(database.query, stop)
          const sweeper = every(sweepMs, 'deletion of what has ended', logger, sweep)
          return async () => {
            await sweeper.stop()
            await keyring.stop()
          }
        },
      }
    },
  })
}

/** The schedule of the signing keys in ms: looked at eight times within a lead, but not more than twice a second. */
function keySettings(config: Config) {
  const leadMs = config.SIGNING_KEY_LEAD_SECONDS * secondMs
  return {
    lifetimeMs: config.SIGNING_KEY_DAYS * dayMs,
    leadMs,
    checkMs: Math.min(30 * secondMs, Math.max(secondMs / 2, leadMs / 8)),
    tokenMs: config.ACCESS_TOKEN_SECONDS * secondMs,
  }
}

function measureKeys(metrics: Registry, keyring: Keyring): void {
  new Gauge({
    name: 'shopstream_signing_key_expiry_timestamp_seconds',
    help: 'When the last signing key expires that is published so far, in seconds since 1970.',
    registers: [metrics],
    collect() {
      const expiry = keyring.expiry()
      if (expiry) this.set(expiry.getTime() / secondMs)
      else this.remove() // it begins at 0, which would be a key of 1970
    },
  })
}

function measurePasswords(metrics: Registry, passwords: Passwords): void {
  new Gauge({
    name: 'shopstream_passwords_waiting',
    help: 'Logins and registrations that wait for their password to be hashed.',
    registers: [metrics],
    collect() {
      this.set(passwords.waiting())
    },
  })
}
