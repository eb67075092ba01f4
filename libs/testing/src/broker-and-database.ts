import { randomBytes } from 'node:crypto'

export interface TestDatabase {
  /** For a role that owns the database and may connect to no other. */
  url: string
  /** Removes it, with whoever is still connected. */
  drop(): Promise<void>
}

/**
 * Makes an empty database of its own on the run's Postgres; `name` only helps to recognise it.
 * Throws when Jest's global setup has started none.
 */
export async function testDatabase(name: string): Promise<TestDatabase> {
  const adminUrl = setting('TEST_POSTGRES_URL')
  // Loaded here, because the local stack uses this package too and must not carry a Postgres client in its memory.
  const { createServiceDatabase, dropServiceDatabase } = await import('@shopstream/database')
  const unique = `${name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .slice(0, 40)}_${randomBytes(5).toString('hex')}`
  const url = await createServiceDatabase(adminUrl, { name: unique, password: randomBytes(12).toString('base64url') })
  return { url, drop: () => dropServiceDatabase(adminUrl, unique) }
}

/** The run's Kafka, and a prefix that keeps this caller's topics and groups apart from all others. */
export function testBroker(): { brokers: string[]; topicPrefix: string } {
  const brokers = setting('TEST_KAFKA_BROKERS').split(',')
  return { brokers, topicPrefix: `t${randomBytes(5).toString('hex')}.` }
}

function setting(name: string): string {
  const value = process.env[name]
  if (!value)
    throw new Error(`${name} is not set: Jest's global setup (libs/testing/src/jest) starts Kafka and Postgres`)
  return value
}
