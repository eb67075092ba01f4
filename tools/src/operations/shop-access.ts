import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { ConfigError, dataSettings, kafkaIdentitySettings, readConfig, settings, Type } from '@shopstream/config'
import { createDatabase, type Database } from '@shopstream/database'
import { repository } from '@shopstream/local-servers'
import { openKafkaBus } from '@shopstream/messaging'
import { type Bus, identityOf, type KafkaIdentity, kafkaClientFrom } from '@shopstream/messaging/operations'
import { createLogger, type Logger } from '@shopstream/observability'
import { homeFolder, runningShop } from '../local/state-folder.ts'
import { settingsOf, variableOf } from '../services.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { isBundle, type Owner, owners, perOwner } from './services.ts'

export { type Owner, owners, perOwner } from './services.ts'

/** Throws a UsageError for what is no service with a database. */
export function ownerNamed(name: string | undefined): Owner {
  const owner = owners.find((each) => each === name)
  if (!owner) throw new UsageError(`${name ?? 'Which service'}? There are ${owners.join(', ')}.`)
  return owner
}

/** Where a shop is: a deployment by its environment, else the local one that runs. */
export interface ShopAddresses {
  brokers: string[]
  topicPrefix: string
  databaseUrls: Record<Owner, string>
  /** Own HTTP of each service, by name, as far as it is known. */
  serviceUrls: Record<string, string>
  /** How Kafka is spoken to; default: plainly. */
  identity?: KafkaIdentity
  /** Bytes of an unpacked batch from which on it is not read, as the services have it; default: theirs. */
  batchLimitBytes?: number
  /** Lists who writes events beside the services, for `verify`; default: nobody does. */
  producersFile?: string | undefined
  /** As the bridge service has it, as far as it is known: which bridges there are, and the URLs of their brokers. */
  bridgeEnvironment?: NodeJS.ProcessEnv
}

/** An operator's hands on a shop: its topics and every service's database, by the service's own role. */
export interface Reach extends ShopAddresses {
  bus: Bus
  // biome-ignore lint/suspicious/noExplicitAny: each service has tables of its own
  databases: Record<Owner, Database<any>>
  logger: Logger
  close(): Promise<void>
}

const urlVariables = ['gateway', ...owners].map((name) => [name, `${name.toUpperCase()}_URL`] as const)

/** For usage texts: the environment by which the commands find a shop. */
export const reachHelp = `Works on the local shop that runs (SHOPSTREAM_HOME). For another deployment set KAFKA_BROKERS, KAFKA_TOPIC_PREFIX,
${owners.map((owner) => variableOf(owner, 'DATABASE_URL')).join(', ')}
and, where known, ${urlVariables.map(([, variable]) => variable).join(', ')}. Where the services have another
KAFKA_BATCH_LIMIT_BYTES, set it too: commands read as much as they do. Databases are asked past any pooler in transaction mode.
A Kafka with TLS or users needs KAFKA_TLS, KAFKA_SASL_MECHANISM and their like, as services have them; for the local shop as well.`

const databaseUrl = (owner: Owner) =>
  settings.url(`the database of the ${owner} service, by its role`, {
    protocols: ['postgres', 'postgresql'],
    example: `postgres://${owner}:password@127.0.0.1:5432/${owner}`,
  })

const deploymentSchema = Type.Object({
  KAFKA_BROKERS: dataSettings.KAFKA_BROKERS,
  KAFKA_TOPIC_PREFIX: dataSettings.KAFKA_TOPIC_PREFIX,
  ...settingsOf('DATABASE_URL', databaseUrl),
})

const clientSchema = Type.Object({
  KAFKA_BATCH_LIMIT_BYTES: dataSettings.KAFKA_BATCH_LIMIT_BYTES,
  ...kafkaIdentitySettings,
})

/** Commands take the client that KAFKA_CLIENT names, whichever the services use. */
function checkClient(env: NodeJS.ProcessEnv): void {
  try {
    kafkaClientFrom(env)
  } catch (error) {
    throw new Refusal((error as Error).message)
  }
}

/** Finds the shop. Throws a {@link Refusal} when none runs and the environment names none, or only half of one. */
export function findPlace(env: NodeJS.ProcessEnv = process.env): ShopAddresses {
  checkClient(env)
  try {
    const client = readConfig(clientSchema, env)
    const { KAFKA_BATCH_LIMIT_BYTES: batchLimitBytes } = client
    const isDeployed = owners.some(
      (owner) => env[variableOf(owner, 'DATABASE_URL')] || env[variableOf(owner, 'DATABASE_URL_FILE')],
    )
    return { ...(isDeployed ? deployedPlace(env) : localPlace(env)), batchLimitBytes, identity: identityOf(client) }
  } catch (error) {
    if (error instanceof ConfigError) throw new Refusal(error.message)
    throw error
  }
}

/** From where npm was called. */
const producersFile = ({ FOREIGN_PRODUCERS, INIT_CWD }: NodeJS.ProcessEnv) =>
  FOREIGN_PRODUCERS ? resolve(INIT_CWD ?? '', FOREIGN_PRODUCERS) : undefined

/** Whose producers are for the local shop; not there in a bundle. */
const examples = join(repository, 'examples/producers.json')

/** What the local shop has written for a service. */
function environmentOf(service: Owner, home: string): NodeJS.ProcessEnv {
  const file = join(home, 'env', `${service}.env`)
  return existsSync(file) ? parseEnv(readFileSync(file, 'utf8')) : {}
}

/** What tells of bridges: of the shop that was started here last, and of who asks. */
export const bridgeEnvironment = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  ...environmentOf('bridge', homeFolder(env)),
  ...env,
})

function localPlace(env: NodeJS.ProcessEnv): ShopAddresses {
  const running = runningShop(homeFolder(env))
  if (!running) throw new Refusal(`No shop runs in ${homeFolder(env)}: npm start starts one.\n\n${reachHelp}`)
  const { brokers, topicPrefix, databaseUrls, gatewayUrl, services } = running
  return {
    brokers,
    topicPrefix,
    databaseUrls: databaseUrls as Record<Owner, string>,
    producersFile: producersFile(env) ?? (existsSync(examples) ? examples : undefined),
    bridgeEnvironment: bridgeEnvironment(env),
    serviceUrls: { ...services, gateway: gatewayUrl },
  }
}

function deployedPlace(env: NodeJS.ProcessEnv): ShopAddresses {
  const config = readConfig(deploymentSchema, env)
  const urls = urlVariables.flatMap(([name, variable]) => (env[variable] ? [[name, env[variable]]] : []))
  return {
    brokers: config.KAFKA_BROKERS,
    topicPrefix: config.KAFKA_TOPIC_PREFIX,
    databaseUrls: perOwner((owner) => config[variableOf(owner, 'DATABASE_URL')]),
    producersFile: producersFile(env),
    bridgeEnvironment: env,
    serviceUrls: Object.fromEntries(urls),
  }
}

/** Takes hold of a shop; connects when first needed. */
export async function reach(place: ShopAddresses, level = process.env.LOG_LEVEL ?? 'error'): Promise<Reach> {
  const logger = createLogger({ service: 'shop', level, format: isBundle ? 'json' : 'pretty' })
  const databases = perOwner((owner) =>
    createDatabase({ url: place.databaseUrls[owner], poolSize: 4, applicationName: 'shop-command', logger }),
  )
  const bus = await openKafkaBus({
    brokers: place.brokers,
    topicPrefix: place.topicPrefix,
    clientId: 'shop-command',
    logger,
    ...(place.identity && { identity: place.identity }),
    ...(place.batchLimitBytes !== undefined && { batchLimitBytes: place.batchLimitBytes }),
  })
  return {
    ...place,
    bus,
    databases,
    logger,
    async close() {
      await Promise.all([bus.close(), ...Object.values(databases).map((database) => database.close())])
    },
  }
}

/** Runs `work` with a hold on the shop that {@link findPlace} finds, and lets go of it afterwards. */
export async function withReach<R>(work: (reach: Reach) => Promise<R>): Promise<R> {
  const held = await reach(findPlace())
  try {
    return await work(held)
  } finally {
    await held.close()
  }
}
