import { serviceSettings, settings, Type } from '@shopstream/config'

const serviceUrl = (name: string, port: number) =>
  settings.url(`where the ${name} service listens`, { example: `http://127.0.0.1:${port}` })

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
  USER_URL: serviceUrl('user', 8081),
  ORDER_URL: serviceUrl('order', 8082),
  INVENTORY_URL: serviceUrl('inventory', 8083),
  NOTIFICATION_URL: serviceUrl('notification', 8084),
  CORS_ORIGINS: Type.Optional(
    settings.list('origins of web pages that may call the API, separated by commas', {
      pattern: '^https?://[^/]+$',
      example: 'https://shop.example.org',
    }),
  ),
})
