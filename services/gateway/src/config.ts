import { ConfigError, type Static, serviceSettings, settings, Type } from '@shopstream/config'
import type { RegistryAccess } from './schema-registry/serve.ts'
import { type ServiceName, services, settingsOf } from './services.ts'

/**
 * Plain HTTP only, as services speak nothing else: with https:// the gateway would still send passwords in the clear.
 */
const serviceUrl = (name: ServiceName) =>
  settings.url(`where the ${name} service listens`, {
    protocols: ['http'],
    example: `http://127.0.0.1:${services[name].port}`,
  })

/** The environment of the gateway. */
export const configSchema = Type.Object({
  ...serviceSettings,
  METRICS_PORT: Type.Optional(
    settings.port(undefined, {
      description: 'an internal port for /metrics, which PORT does not serve',
      example: '9464',
    }),
  ),
  METRICS_HOST: settings.text('the address that METRICS_PORT listens on', { defaultValue: '127.0.0.1' }),
  ...settingsOf('URL', serviceUrl),
  SERVICE_WAIT_MS: settings.integer(8_000, {
    min: 0,
    max: 60_000,
    description:
      'how long requests wait for a service that is away, as while it is replaced; later ones get 503 at once',
  }),
  CORS_ORIGINS: Type.Optional(
    settings.list('origins of web pages that may call the API, separated by commas', {
      pattern: '^https?://[^/]+$',
      example: 'https://shop.example.org',
    }),
  ),
  TRUSTED_PROXIES: Type.Optional(
    settings.list('addresses or networks of the load balancers in front, whose X-Forwarded-For is believed', {
      pattern: '^[0-9a-fA-F.:]+(/\\d{1,3})?$',
      example: '10.0.0.0/8,2001:db8::/32',
    }),
  ),
  /** The events' schemas for clients of a Confluent Schema Registry, at /schema-registry. */
  SCHEMA_REGISTRY_ACCESS: settings.choice(['off', 'password', 'anonymous'], 'off'),
  SCHEMA_REGISTRY_USER: settings.text('who may read the schema registry with a password', { defaultValue: 'reader' }),
  SCHEMA_REGISTRY_PASSWORD: Type.Optional(
    settings.secret('the password for reading the schema registry', { minLength: 12 }),
  ),
})

export type Config = Static<typeof configSchema>

/** Who may read the schema registry; undefined for nobody. Throws {@link ConfigError} when its password is not set. */
export function registryAccessOf(config: Config): RegistryAccess | undefined {
  const { SCHEMA_REGISTRY_ACCESS: access, SCHEMA_REGISTRY_USER: user, SCHEMA_REGISTRY_PASSWORD: password } = config
  if (access === 'off') return undefined
  if (access === 'anonymous') return access
  if (password !== undefined) return { user, password }
  throw new ConfigError(['SCHEMA_REGISTRY_PASSWORD is missing: SCHEMA_REGISTRY_ACCESS=password needs it'])
}

/** What the schema cannot say, for whoever judges an environment before the service is started. */
export const checkConfig = registryAccessOf
