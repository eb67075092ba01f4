/** A service behind the gateway. */
export type ServiceName = 'user' | 'order' | 'inventory' | 'notification'

/** Whose requests are whose: a path belongs to a row when it is the prefix or lies below it. */
export const routes: readonly { prefix: string; service: ServiceName }[] = [
  { prefix: '/v1/users', service: 'user' },
  { prefix: '/v1/sessions', service: 'user' },
  { prefix: '/v1/orders', service: 'order' },
  { prefix: '/v1/products', service: 'inventory' },
  { prefix: '/v1/notifications', service: 'notification' },
  { prefix: '/v1/mailings', service: 'notification' },
]

/** The service that a path belongs to. */
export function serviceOf(path: string): ServiceName | undefined {
  return routes.find(({ prefix }) => path === prefix || path.startsWith(`${prefix}/`))?.service
}
