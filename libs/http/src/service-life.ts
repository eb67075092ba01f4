import { adviceOn, type Database, isPassing, type Migration, migrate, sql } from '@shopstream/database'
import { type Messaging, pause } from '@shopstream/messaging'
import type { Logger } from '@shopstream/observability'
import type { FastifyInstance } from 'fastify'
import { errorsOf } from './errors.ts'
import type { Service } from './run-service.ts'

export interface ServiceLifeOptions {
  http: FastifyInstance
  /** Where it listens. */
  address: { host: string; port: number }
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>
  migrations: readonly Migration[]
  messaging: Messaging
  logger: Logger
  /** What the service does besides, once its database is migrated: seeding, loops. Its result stops that again. */
  begin?(): Promise<(() => Promise<void>) | undefined>
}

/** Requests wait so long for a start, in ms: most take less than 2 s. One that waits for its database refuses them. */
const startMs = 5_000

const errors = errorsOf({ starting: { status: 503, detail: 'The service is starting. Try again in a few seconds.' } })

/**
 * The life of a service with a database. It listens at once, so that probes get an answer while it waits for its
 * database; then it migrates, begins, and connects to the broker in the background. Until it has begun it is not ready.
 */
export function serviceLife({
  http,
  address,
  database,
  migrations,
  messaging,
  logger,
  begin,
}: ServiceLifeOptions): Service & { readonly http: FastifyInstance } {
  const stopping = new AbortController()
  let isStarted = false
  const started = Promise.withResolvers<void>()
  let waitUntil = 0 // by performance.now()
  let end: (() => Promise<void>) | undefined

  // This check decides over requests too, so that `/readyz` never says ok when the next request is refused.
  http.readinessChecks.push({
    name: 'start',
    check() {
      if (!isStarted) throw new Error('the database is being migrated, or filled with what every request needs')
    },
  })
  http.addHook('onRequest', async (request, reply) => {
    if (isStarted || !request.url.startsWith('/v1/')) return
    await Promise.race([started.promise, pause(Math.max(0, waitUntil - performance.now()), stopping.signal)])
    if (isStarted) return
    reply.header('retry-after', '2')
    throw errors.starting()
  })

  /** Runs `work` until the database lets it; other errors are thrown, with what to do where it is known. */
  async function whenAvailable<R>(work: () => Promise<R>): Promise<R | undefined> {
    while (!stopping.signal.aborted) {
      try {
        return await work()
      } catch (error) {
        if (stopping.signal.aborted) return undefined
        const advice = adviceOn(error)
        if (advice) throw new Error(advice, { cause: error })
        if (!isPassing(error)) throw error
        logger.warn({ err: error }, 'waiting for the database')
        await pause(500, stopping.signal)
      }
    }
    return undefined
  }

  async function migrateDatabase(): Promise<void> {
    const applied = await whenAvailable(() => migrate(database, migrations, { logger, signal: stopping.signal }))
    if (applied?.length) logger.info({ applied }, 'the database is migrated')
  }

  return {
    http,
    migrate: migrateDatabase,
    async start() {
      waitUntil = performance.now() + startMs
      await http.listen(address)
      await migrateDatabase()
      // Tries the other address too, if there are two: after the start, its permanent refusals would be retried for
      // ever.
      await whenAvailable(() => sql`select`.execute(database.query))
      if (begin) end = await whenAvailable(begin)
      if (stopping.signal.aborted) return
      isStarted = true
      started.resolve()
      messaging.start()
    },
    async stop() {
      stopping.abort()
      await http.close()
      await end?.()
      await messaging.stop()
      await database.close()
    },
  }
}
