import { type Backend, startBackend } from './backend.ts'

declare global {
  var shopstreamTestBackend: Backend | undefined
}

/** Starts one Kafka and one Postgres for the whole run, unless TEST_KAFKA_BROKERS and TEST_POSTGRES_URL name some. */
export default async function globalSetup(): Promise<void> {
  if (process.env.TEST_KAFKA_BROKERS && process.env.TEST_POSTGRES_URL) return
  const backend = await startBackend((line) => process.stderr.write(`${line}\n`))
  if (!backend) return
  process.env.TEST_KAFKA_BROKERS = backend.brokers
  process.env.TEST_POSTGRES_URL = backend.postgresUrl
  globalThis.shopstreamTestBackend = backend
}
