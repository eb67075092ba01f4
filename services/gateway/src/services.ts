/**
 * The services behind the gateway, in the order of their start: the port that each listens on by default, and the paths
 * that are its own with all that lies below them; `keepsAnswers` where each POST acts once, however often it comes with a user's
 * Idempotency-Key. Tools read this list too: a service that is not in it is not run.
 */
export const services = {
  user: { port: 8081, paths: ['/v1/users', '/v1/sessions'] },
  order: { port: 8082, paths: ['/v1/orders'], keepsAnswers: true },
  inventory: { port: 8083, paths: ['/v1/products'], keepsAnswers: true },
  notification: { port: 8084, paths: ['/v1/notifications', '/v1/mailings'], keepsAnswers: true },
  bridge: { port: 8085, paths: ['/v1/bridges'] },
} as const satisfies Record<string, { port: number; paths: readonly string[]; keepsAnswers?: true }>

export type ServiceName = keyof typeof services
export const serviceNames = Object.keys(services) as ServiceName[]

export const keepsAnswers = (name: ServiceName): boolean => 'keepsAnswers' in services[name]

/** A variable of the environment for each service, such as `ORDER_URL`. */
export type VariableOf<Suffix extends string> = { [N in ServiceName]: `${Uppercase<N>}_${Suffix}` }[ServiceName]
export const variableOf = <Suffix extends string>(name: ServiceName, suffix: Suffix) =>
  `${name.toUpperCase()}_${suffix}` as VariableOf<Suffix>

/** A value for each service. */
export const perService = <T>(value: (name: ServiceName) => T) =>
  Object.fromEntries(serviceNames.map((name) => [name, value(name)])) as Record<ServiceName, T>

const ownPaths = serviceNames.flatMap((service) => services[service].paths.map((path) => ({ path, service })))

/** A setting for each service, by the name of its variable. */
export const settingsOf = <Suffix extends string, T>(suffix: Suffix, value: (name: ServiceName) => T) =>
  Object.fromEntries(serviceNames.map((name) => [variableOf(name, suffix), value(name)])) as Record<
    VariableOf<Suffix>,
    T
  >

/** The service that a path belongs to. */
export function serviceOf(path: string): ServiceName | undefined {
  return ownPaths.find((own) => path === own.path || path.startsWith(`${own.path}/`))?.service
}
