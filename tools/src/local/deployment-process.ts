/**
 * A short-lived process of the local stack: makes databases and topics, and ends. It is a process of its own because the
 * clients of Postgres and Kafka would otherwise stay in the stack's memory (30 MB) for as long as it runs.
 */
import { kafkaIdentitySettings, readConfig, Type } from '@shopstream/config'
import { createServiceDatabase } from '@shopstream/database'
import { openKafkaBus } from '@shopstream/messaging'
import { ensureTopics, identityOf } from '@shopstream/messaging/operations'
import { createLogger } from '@shopstream/observability'

export interface DatabasesTask {
  task: 'databases'
  adminUrl: string
  databases: { name: string; password: string }[]
}

export interface TopicsTask {
  task: 'topics'
  brokers: string[]
  topicPrefix: string
  groups: string[]
}

/** `databases` answers with the URLs, in the order of the request; `topics` with the topics it made. */
export type DeployAnswer = { result: string[] } | { error: string }

async function perform(order: DatabasesTask | TopicsTask): Promise<string[]> {
  if (order.task === 'databases') {
    return Promise.all(order.databases.map((database) => createServiceDatabase(order.adminUrl, database)))
  }
  const logger = createLogger({ service: 'stack', level: 'warn', format: 'pretty' })
  const identity = identityOf(readConfig(Type.Object(kafkaIdentitySettings)))
  const bus = await openKafkaBus({ ...order, identity, clientId: 'shopstream-deployment', logger })
  try {
    return (await ensureTopics(bus, order.groups)).made
  } finally {
    await bus.close()
  }
}

/** A connection that is refused comes without a message where several addresses were tried. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const reason = error.message || (error as { code?: string }).code || error.name
  return process.env.LOG_LEVEL === 'debug' ? `${reason}\n${error.stack}` : reason
}

process.on('message', async (order: DatabasesTask | TopicsTask) => {
  let answer: DeployAnswer
  try {
    answer = { result: await perform(order) }
  } catch (error) {
    answer = { error: describe(error) }
  }
  process.send?.(answer)
})
process.once('disconnect', () => process.exit())
