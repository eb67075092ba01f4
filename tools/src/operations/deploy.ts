import { parseArgs } from 'node:util'
import { ConfigError, dataSettings, readConfig, settings, Type } from '@shopstream/config'
import { createServiceDatabase } from '@shopstream/database'
import { openKafkaBus } from '@shopstream/messaging'
import { ensureTopics } from '@shopstream/messaging/operations'
import { createLogger } from '@shopstream/observability'
import { settingsOf, variableOf } from '../services.ts'
import { good } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { reasonOf } from './answers.ts'
import { type Owner, owners } from './shop-access.ts'

export const usage = `Usage: npm run shop -- deploy databases|topics

Puts in place what services find when they start. Repeating it changes nothing; a service's new password is taken over.

  databases   a role and a database for each service, which only that role may enter: as POSTGRES_URL, the URL
              of a superuser, and with the passwords in ${owners.map((owner) => variableOf(owner, 'DATABASE_URL')).join(', ')}
  topics      all topics, and the schemas of all events made known, at KAFKA_BROKERS (KAFKA_TOPIC_PREFIX)

Each URL may stand in a file that NAME_FILE names instead. The tables are made by each service: main.js migrate, or its start.`

const postgres = { protocols: ['postgres', 'postgresql'] }
const databasesSchema = Type.Object({
  POSTGRES_URL: settings.url('a superuser, who makes roles and databases', {
    ...postgres,
    example: 'postgres://postgres:password@127.0.0.1:5432/postgres',
  }),
  ...settingsOf('DATABASE_URL', (owner) =>
    settings.url(`what the ${owner} service connects with`, {
      ...postgres,
      example: `postgres://${owner}:password@127.0.0.1:5432/${owner}`,
    }),
  ),
})
const topicsSchema = Type.Object({
  KAFKA_BROKERS: dataSettings.KAFKA_BROKERS,
  KAFKA_TOPIC_PREFIX: dataSettings.KAFKA_TOPIC_PREFIX,
})

export async function deploy(args: string[]): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true })
  const work = { databases: deployDatabases, topics: deployTopics }[positionals.join(' ')]
  if (!work) throw new UsageError('deploy takes one of databases and topics.')
  try {
    await work()
    return 0
  } catch (error) {
    if (error instanceof ConfigError) throw new Refusal(error.message)
    throw new Refusal(`${positionals[0]} cannot be put in place: ${reasonOf(error)}`)
  }
}

async function deployDatabases(): Promise<void> {
  const config = readConfig(databasesSchema)
  const databases = owners.map((owner) => ({
    name: owner,
    password: passwordOf(owner, config[variableOf(owner, 'DATABASE_URL')]),
  }))
  for (const database of databases) await createServiceDatabase(config.POSTGRES_URL, database)
  print(good(`databases and roles of ${owners.join(', ')} are in place`))
}

/** Role and database are named after the service, as everything else of it is. */
function passwordOf(owner: Owner, databaseUrl: string): string {
  const { username, password, pathname } = new URL(databaseUrl)
  if (decodeURIComponent(username) === owner && pathname === `/${owner}` && password !== '')
    return decodeURIComponent(password)
  throw new ConfigError([
    `${variableOf(owner, 'DATABASE_URL')} must be of the role ${owner}, with a password, and the database ${owner}`,
  ])
}

async function deployTopics(): Promise<void> {
  const config = readConfig(topicsSchema)
  const logger = createLogger({ service: 'deployment', level: 'warn', format: 'json' })
  const bus = await openKafkaBus({
    brokers: config.KAFKA_BROKERS,
    topicPrefix: config.KAFKA_TOPIC_PREFIX,
    clientId: 'shopstream-deployment',
    logger,
  })
  try {
    const made = await ensureTopics(bus, owners)
    print(good(made.length > 0 ? `made ${made.join(', ')}` : 'all topics were there'))
  } finally {
    await bus.close()
  }
}
