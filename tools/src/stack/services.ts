import type { Secrets } from './home.ts'
import type { PortName, Ports, StackSettings } from './settings.ts'

/** What a service's environment is made from. */
export interface Surroundings {
  ports: Ports
  brokers: string[]
  /** Its own database; undefined for a service without one. */
  databaseUrl: (service: ServiceName) => string
  smtpUrl: string
  secrets: Secrets
  settings: StackSettings
}

interface ServiceRow {
  port: PortName
  hasDatabase: boolean
  env: (around: Surroundings) => Record<string, string>
}

const url = (port: number) => `http://127.0.0.1:${port}`

/** Every service of the stack, in the order in which they are started, and what only it needs in its environment. */
export const services = {
  user: {
    port: 'USER_PORT',
    hasDatabase: true,
    env: ({ secrets, settings }) => ({
      KEY_ENCRYPTION_SECRET: secrets.keyEncryptionSecret,
      STAFF_EMAIL: settings.STAFF_EMAIL,
      STAFF_PASSWORD: settings.STAFF_PASSWORD ?? secrets.staffPassword,
    }),
  },
  inventory: { port: 'INVENTORY_PORT', hasDatabase: true, env: () => ({ SEED_CATALOGUE: 'true' }) },
  order: { port: 'ORDER_PORT', hasDatabase: true, env: () => ({}) },
  notification: {
    port: 'NOTIFICATION_PORT',
    hasDatabase: true,
    env: ({ smtpUrl }) => ({ SMTP_URL: smtpUrl, MAIL_FROM: 'shopstream <shop@shop.example>' }),
  },
  gateway: {
    port: 'GATEWAY_PORT',
    hasDatabase: false,
    env: ({ ports }) => ({
      METRICS_PORT: String(ports.GATEWAY_METRICS_PORT),
      USER_URL: url(ports.USER_PORT),
      ORDER_URL: url(ports.ORDER_PORT),
      INVENTORY_URL: url(ports.INVENTORY_PORT),
      NOTIFICATION_URL: url(ports.NOTIFICATION_PORT),
    }),
  },
} as const satisfies Record<string, ServiceRow>

export type ServiceName = keyof typeof services
export const serviceNames = Object.keys(services) as ServiceName[]
export const databaseOwners = serviceNames.filter((name) => services[name].hasDatabase)

/** The whole environment of a service as the stack runs it, without what it inherits. */
export function serviceEnvironment(name: ServiceName, around: Surroundings): Record<string, string> {
  const { port, hasDatabase, env } = services[name]
  return {
    HOST: '127.0.0.1',
    PORT: String(around.ports[port]),
    // The stack stops everything within 10 s, Kafka after the services.
    SHUTDOWN_TIMEOUT_MS: '4000',
    ...(hasDatabase && {
      DATABASE_URL: around.databaseUrl(name),
      KAFKA_BROKERS: around.brokers.join(),
      KAFKA_TOPIC_PREFIX: around.settings.KAFKA_TOPIC_PREFIX,
    }),
    ...env(around),
  }
}
