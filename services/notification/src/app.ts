import { type Database, readMigrations } from '@shopstream/database'
import { createDataService, migrationsWith } from '@shopstream/http'
import type { Logger, Registry } from '@shopstream/observability'
import { type Config, senderOf } from './config.ts'
import { consumes } from './consumes.ts'
import { startFiller } from './mailings/fill.ts'
import { createOptOutLinks } from './mailings/opt-out.ts'
import { produces } from './produces.ts'
import { routes } from './routes.ts'
import { createDueFloor } from './sending/due-floor.ts'
import { measureBacklog } from './sending/meters.ts'
import { type SendingPolicy, sendingPolicy } from './sending/policy.ts'
import { createSender, outcomeCounter } from './sending/sender.ts'
import { createMailTransport } from './sending/smtp.ts'
import { createAnswers } from './sending/smtp-replies.ts'
import type { Lane, Tables } from './tables.ts'

const own = readMigrations('notification', import.meta.url)
/** All SQL that makes the notification database. */
export const migrations = migrationsWith(own)

/** What the settings say of sending. A service that has finished what it can has time left to write down the rest. */
const policyOf = (config: Config): SendingPolicy => ({
  ...sendingPolicy,
  answerMs: config.SMTP_ANSWER_TIMEOUT_SECONDS * 1_000,
  finishMs: Math.min(sendingPolicy.finishMs, config.SHUTDOWN_TIMEOUT_MS / 2),
})

/** Connections for the loops that make mailings and send: one per lane to note sent mails, and one more for each. */
const loopConnections = 4

/** Builds the notification service from its settings; nothing is connected before `start`. */
export async function buildNotification(config: Config, logger: Logger, policy = policyOf(config)) {
  const from = senderOf(config)
  return createDataService<Tables>({
    service: 'notification',
    title: 'shopstream: notifications',
    tags: { notifications: 'Mails about accounts and orders.', mailings: 'Mails to all users.' },
    config,
    logger,
    consumes,
    produces,
    migrations: own,
    parts({ database, metrics }) {
      // If requests held all connections, no claim could be ended, and another instance would send its mail, too.
      const forLoops = database.withPool('loops', loopConnections)
      const links = createOptOutLinks(database, config.PUBLIC_URL)
      if (!config.PUBLIC_URL) logger.warn('mailings have no link by which to opt out of them: PUBLIC_URL is not set')
      const sending = createSending({ database, forLoops, config, from, policy, links, metrics, logger })
      return {
        routes: routes({ database, links }),
        checks: sending.checks,
        async begin() {
          await links.load()
          sending.start()
          const stopFilling = startFiller(forLoops, logger)
          return async () => {
            await stopFilling()
            await sending.stop()
          }
        },
      }
    },
  })
}

interface SendingOptions {
  database: Database<Tables>
  /** The same, by connections that requests cannot take. */
  forLoops: Database<Tables>
  config: Config
  from: string
  policy: SendingPolicy
  links: ReturnType<typeof createOptOutLinks>
  metrics: Registry
  logger: Logger
}

/** The senders of both lanes, each with connections to the SMTP server of its own. */
function createSending(options: SendingOptions) {
  const { database, forLoops, config, from, policy, links, metrics, logger } = options
  const count = outcomeCounter(metrics)
  const answers = createAnswers(policy)
  const floors = { urgent: createDueFloor(policy), bulk: createDueFloor(policy) }
  const laneOf = (lane: Lane) => {
    const transport = createMailTransport({ url: config.SMTP_URL, from, ...policy })
    const sender = createSender({
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
    })
    return { transport, sender }
  }
  const urgent = laneOf('urgent')
  const lanes = [urgent, laneOf('bulk')]
  measureBacklog(database, floors, metrics, logger)
  return {
    checks: [urgent.sender.check, ...lanes.map(({ sender }) => sender.laneCheck)],
    start() {
      for (const { sender } of lanes) sender.start()
    },
    async stop() {
      await Promise.all(lanes.map(({ sender }) => sender.stop()))
      for (const { transport } of lanes) transport.close()
    },
  }
}
