/**
 * An instance of the test shop in a process of its own, so that it can be stopped, killed, and live by another clock.
 * It is told by the keys of messages what to do with them, because it cannot be handed a function.
 */
import { flushCompileCache } from 'node:module'
import { createDatabase } from '@shopstream/database'
import { topicOf } from '@shopstream/events'
import { createLogger, createMetrics } from '@shopstream/observability'
import { createMessaging, openKafkaBus } from '../index.ts'
import { growTopic } from '../operations/growth.ts'
import { produces, toldByKeys } from './stock.ts'

const setting = (name: string) => process.env[name] ?? ''
const logger = createLogger({ service: 'shop', level: 'info', format: 'json' })
const database = createDatabase<unknown>({
  url: setting('DATABASE_URL'),
  poolSize: 10,
  applicationName: setting('INSTANCE'),
  logger,
})

database.on('stop', () => process.kill(process.pid, 'SIGSTOP')) // after the commit, before anything else

const metrics = createMetrics('shop')
const bus = await openKafkaBus({
  brokers: setting('KAFKA_BROKERS').split(','),
  topicPrefix: setting('TOPIC_PREFIX'),
  clientId: 'shop',
  logger,
  metrics,
})

if (setting('GROW')) {
  const { event, ...how } = JSON.parse(setting('GROW'))
  await growTopic({ bus, database, topic: topicOf(event), ...how })
  process.exit()
}

createMessaging({
  service: 'shop',
  database,
  bus,
  consumes: [toldByKeys],
  produces,
  logger,
  metrics,
}).start()

flushCompileCache() // Node would at its end, which most of these do not live to see
process.stdin.on('end', () => process.exit(1)).resume()
