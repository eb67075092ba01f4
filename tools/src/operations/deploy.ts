import { parseArgs } from 'node:util'
import { ConfigError, dataSettings, kafkaIdentitySettings, readConfig, settings, Type } from '@shopstream/config'
import { createServiceDatabase } from '@shopstream/database'
import { openKafkaBus } from '@shopstream/messaging'
import { ensureTopics, identityOf, openAcls } from '@shopstream/messaging/operations'
import { createLogger } from '@shopstream/observability'
import { settingsOf, variableOf } from '../services.ts'
import { good } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { putAcls } from './acls.ts'
import { reasonOf } from './answers.ts'
import { type Owner, owners } from './shop-access.ts'

export const usage = `Usage: npm run shop -- deploy databases|topics|acls

Puts in place what services find when they start. Repeating it changes nothing; a service's new password is taken over.

  databases   a role and a database for each service, which only that role may enter: as POSTGRES_URL, the URL
              of a superuser, and with the passwords in ${owners.map((owner) => variableOf(owner, 'DATABASE_URL')).join(', ')}
  topics      all topics, and the schemas of all events made known, at KAFKA_BROKERS (KAFKA_TOPIC_PREFIX)
  acls        what each service, the deployment and operators may do there, as infra/kafka/acls.json has it. By an
              administrator of Kafka; the users themselves are made by hand
    --prune   takes from these users what they may do besides with names of this shop: that begin with KAFKA_TOPIC_PREFIX, or,
              without one, are not a name of the shop behind a prefix. Without --prune, that is only told. What is
              forbidden (DENY), and rights of others, stay
    KAFKA_USER_PREFIX, if set, stands before the names of users: another for each shop at a cluster

KAFKA_TLS and KAFKA_SASL_MECHANISM with their like say how Kafka is spoken to, as for a service.

Each URL and secret may stand in a file that NAME_FILE names instead. The tables are made by each service: main.js migrate, or its start.`

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
const brokersSchema = Type.Object({
  KAFKA_BROKERS: dataSettings.KAFKA_BROKERS,
  KAFKA_TOPIC_PREFIX: dataSettings.KAFKA_TOPIC_PREFIX,
  ...kafkaIdentitySettings,
})
const usersSchema = Type.Object({
  KAFKA_USER_PREFIX: settings.text('what the names of users in ACLs begin with', {
    defaultValue: '',
    pattern: '^[A-Za-z0-9._-]{0,100}$',
    example: 'shop1-',
  }),
})

export async function deploy(args: string[]): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { prune: { type: 'boolean' } } })
  const work = { databases: deployDatabases, topics: deployTopics, acls: deployAcls }[positionals.join(' ')]
  if (!work) throw new UsageError('deploy takes one of databases, topics and acls.')
  if (values.prune && work !== deployAcls) throw new UsageError('--prune is for acls.')
  try {
    await work(values)
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

function kafkaPlace() {
  const config = readConfig(brokersSchema)
  return {
    brokers: config.KAFKA_BROKERS,
    topicPrefix: config.KAFKA_TOPIC_PREFIX,
    identity: identityOf(config),
    clientId: 'shopstream-deployment',
    logger: createLogger({ service: 'deployment', level: 'fatal', format: 'json' }), // what fails is said at the end
  }
}

async function deployTopics(): Promise<void> {
  const bus = await openKafkaBus(kafkaPlace())
  try {
    const { made, longer } = await ensureTopics(bus, owners)
    print(good(made.length > 0 ? `made ${made.join(', ')}` : 'all topics were there'))
    for (const { topic, settings } of longer) {
      const held = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
      print(`${topic} keeps its messages for longer than declared, and goes on so: ${held.join(', ')}`)
    }
  } finally {
    await bus.close()
  }
}

async function deployAcls({ prune = false }: { prune?: boolean | undefined }): Promise<void> {
  const place = kafkaPlace()
  const shop = { topicPrefix: place.topicPrefix, userPrefix: readConfig(usersSchema).KAFKA_USER_PREFIX }
  const admin = await openAcls(place)
  try {
    for (const line of await putAcls(admin, shop, prune)) print(line)
  } finally {
    await admin.close()
  }
}
