import { Gauge, type Logger, type Registry } from '@shopstream/observability'
import type { Bus } from '../bus.ts'
import type { AclAdmin } from './acls.ts'
import { checkIdentity, endOf, identityOf, type KafkaIdentity, type KafkaIdentitySettings } from './identity.ts'
import type { BusOptions } from './options.ts'
import type { BrokerAddress } from './protocol.ts'

/** The clients that there is an adapter for; docs/adr/0017 says which is for what. */
export const kafkaClients = ['kafkajs', 'platformatic'] as const
export type KafkaClient = (typeof kafkaClients)[number]

export interface KafkaOptions {
  /** As `host:port`. */
  brokers: readonly string[]
  /** Put before each topic and group name, so that several deployments can share a cluster. */
  topicPrefix: string
  clientId: string
  logger: Logger
  /** Where its consumers tell how they are; commands have none. */
  metrics?: Registry
  /** Default: what KAFKA_CLIENT says, else `kafkajs`. */
  client?: KafkaClient
  /** Bytes that a batch of records may have when it is unpacked; default {@link defaultBatchLimit}. */
  batchLimitBytes?: number
  /** Default: nobody asks. */
  identity?: KafkaIdentity
}

/** Four times what topics accept; a batch that unpacks to more is treated as a bomb. */
const defaultBatchLimit = 16_777_216
/** What topics take of a batch, and so of a message. */
const messageLimit = 4_194_304

/** What a service's environment says of its Kafka; see `dataSettings` in libs/config. */
export interface KafkaSettings extends KafkaIdentitySettings {
  KAFKA_BROKERS: readonly string[]
  KAFKA_TOPIC_PREFIX: string
  KAFKA_CLIENT: KafkaClient
  KAFKA_BATCH_LIMIT_BYTES: number
}

export const kafkaOptions = (settings: Readonly<KafkaSettings>) => ({
  brokers: settings.KAFKA_BROKERS,
  topicPrefix: settings.KAFKA_TOPIC_PREFIX,
  client: settings.KAFKA_CLIENT,
  batchLimitBytes: settings.KAFKA_BATCH_LIMIT_BYTES,
  identity: identityOf(settings),
})

/** Each is loaded only where it is used: the other would be 20 MB of memory for nothing. */
const adapters: Record<KafkaClient, () => Promise<(options: BusOptions) => Bus>> = {
  kafkajs: async () => (await import('./kafkajs/bus.ts')).createKafkaJsBus,
  platformatic: async () => (await import('./platformatic/bus.ts')).createPlatformaticBus,
}

/** Loads the environment's client at once, so that nothing is loaded while a service works. */
const usual = kafkaClients.find((name) => name === process.env.KAFKA_CLIENT) ?? 'kafkajs'
const usualAdapter = adapters[usual]()
usualAdapter.catch(() => {}) // told when it is used

/**
 * Makes a bus of the client that was chosen. Throws when there is no such client, or for an identity that cannot be used; never
 * for an absent broker.
 */
export async function openKafkaBus(options: KafkaOptions): Promise<Bus> {
  const client = options.client ?? kafkaClientFrom(process.env)
  options.logger.debug({ client, brokers: options.brokers }, 'Kafka is spoken to by this client')
  checkIdentity(options.identity ?? {})
  tellEnd(options)
  const create = await (client === usual ? usualAdapter : adapters[client]())
  return create(busOptions(options))
}

/** Certificates are read at the start, so their end stays what it is; without any there is no metric. */
function tellEnd({ metrics, identity = {} }: KafkaOptions): void {
  const end = endOf(identity)
  if (!metrics || end === undefined) return
  new Gauge({
    name: 'shopstream_certificate_expiry_timestamp_seconds',
    help: 'When the first of the certificates that this process shows or trusts ends, in seconds since 1970; absent without any.',
    labelNames: ['use'],
    registers: [metrics],
  }).set({ use: 'kafka' }, end)
}

/** For an administrator of the brokers. By KafkaJS, whichever client is used else. Throws when no broker lets it in. */
export async function openAcls(options: Omit<KafkaOptions, 'client'>): Promise<AclAdmin> {
  checkIdentity(options.identity ?? {})
  return (await import('./kafkajs/acls.ts')).createAclAdmin(busOptions(options))
}

/** Throws when KAFKA_CLIENT names none of {@link kafkaClients}. */
export function kafkaClientFrom({ KAFKA_CLIENT: name = 'kafkajs' }: NodeJS.ProcessEnv): KafkaClient {
  const found = kafkaClients.find((client) => client === name)
  if (!found) throw new Error(`KAFKA_CLIENT is ${name}; there are ${kafkaClients.join(' and ')}`)
  return found
}

function busOptions({ brokers, topicPrefix, batchLimitBytes, ...options }: KafkaOptions): BusOptions {
  const { clientId, logger, metrics, identity = {} } = options
  return {
    brokers: brokers.map(addressOf),
    clientId,
    identity,
    logger,
    metrics,
    limits: { batchBytes: batchLimitBytes ?? defaultBatchLimit, messageBytes: messageLimit },
    wireName: (name) => topicPrefix + name,
    ownName: (name) => name.slice(topicPrefix.length),
  }
}

/** Of `host:port` or `[address]:port`. */
function addressOf(text: string): BrokerAddress {
  const colon = text.lastIndexOf(':')
  return { host: text.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(text.slice(colon + 1)) }
}
