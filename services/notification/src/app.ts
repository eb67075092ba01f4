import { createDatabase, readMigrations } from '@shopstream/database'
import { createHttp, dataService, httpMigrations, signingKeyMigrations, signingKeys } from '@shopstream/http'
import { createMessaging, kafkaOptions, messagingMigrations, openKafkaBus } from '@shopstream/messaging'
import { createMetrics, type Logger } from '@shopstream/observability'
import { type Config, senderOf } from './config.ts'
import { consumes } from './consumes.ts'
import { startFiller } from './mailings/fill.ts'
import { createOptOutLinks } from './mailings/opt-out.ts'
import { produces } from './produces.ts'
import { routes } from './routes.ts'
import { createAnswers } from './sending/answers.ts'
import { createDueFloor } from './sending/due-floor.ts'
import { measureBacklog } from './sending/meters.ts'
import { type SendingPolicy, sendingPolicy } from './sending/policy.ts'
import { createSender, outcomeCounter } from './sending/sender.ts'
import { createMailTransport } from './sending/smtp.ts'
import type { Lane, Tables } from './tables.ts'

/** All SQL that makes the notification database. */
export const migrations = [
  ...messagingMigrations,
  ...httpMigrations,
  ...signingKeyMigrations,
  ...readMigrations('notification', import.meta.url),
]

/** What the settings say of sending. A service that has finished what it can has time left to write down the rest. */
const policyOf = (config: Config): SendingPolicy => ({
  ...sendingPolicy,
  answerMs: config.SMTP_ANSWER_TIMEOUT_SECONDS * 1_000,
  finishMs: Math.min(sendingPolicy.finishMs, config.SHUTDOWN_TIMEOUT_MS / 2),
})

/** Connections of the loops that make mailings and send: for each lane one to note what has gone out, and one besides. */
const loopConnections = 4

/** Builds the notification service from its settings; nothing is connected before `start`. */
export async function buildNotification(config: Config, logger: Logger, policy = policyOf(config)) {
  const from = senderOf(config)
  const metrics = createMetrics('notification')
  const database = createDatabase<Tables>({
    url: config.DATABASE_URL,
    directUrl: config.DATABASE_DIRECT_URL,
    poolSize: config.DATABASE_POOL_SIZE,
    applicationName: 'notification',
    logger,
  })
  // Requests that hold all connections that are theirs let no claim end: another instance would send its mail, too.
  const forLoops = database.withPool(loopConnections)
  const messaging = createMessaging({
    service: 'notification',
    database: database.withPool(config.DATABASE_CONSUMER_POOL_SIZE),
    bus: await openKafkaBus({ ...kafkaOptions(config), clientId: 'notification', logger, metrics }),
    parkedLimits: { count: config.PARKED_LIMIT_COUNT, ageSeconds: config.PARKED_LIMIT_AGE_SECONDS },
    consumes,
    produces,
    outboxLimits: config,
    logger,
    metrics,
  })
  const count = outcomeCounter(metrics)
  const answers = createAnswers(policy)
  const floors = { urgent: createDueFloor(policy), bulk: createDueFloor(policy) }
  const links = createOptOutLinks(database, config.PUBLIC_URL)
  if (!config.PUBLIC_URL) logger.warn('mailings have no link by which to opt out of them: PUBLIC_URL is not set')
  const laneOf = (lane: Lane) => {
    const transport = createMailTransport({ url: config.SMTP_URL, from, ...policy })
    return {
      transport,
      sender: createSender({
        database: forLoops,
        lane,
        transport,
        floor: floors[lane],
        answers,
        from,
        optOutLinkOf: links.linkOf,
        policy,
        logger,
        count,
      }),
    }
  }
  const urgent = laneOf('urgent')
  const lanes = [urgent, laneOf('bulk')]
  measureBacklog(database, floors, metrics, logger)
  const http = await createHttp({
    service: 'notification',
    title: 'shopstream: notifications',
    tags: { notifications: 'Mails about accounts and orders.', mailings: 'Mails to all users.' },
    routes: routes({ database, links }),
    database,
    keys: signingKeys(database),
    checks: [...messaging.checks, urgent.sender.check, ...lanes.map(({ sender }) => sender.laneCheck)],
    overloaded: messaging.overloaded,
    identitySecret: config.SERVICE_IDENTITY_SECRET,
    logger,
    metrics,
  })

  return dataService({
    http,
    address: { host: config.HOST, port: config.PORT },
    database,
    migrations,
    messaging,
    logger,
    begin: async () => {
      await links.load()
      for (const { sender } of lanes) sender.start()
      const stopFilling = startFiller(forLoops, logger)
      return async () => {
        await stopFilling()
        await Promise.all(lanes.map(({ sender }) => sender.stop()))
        for (const { transport } of lanes) transport.close()
      }
    },
  })
}
