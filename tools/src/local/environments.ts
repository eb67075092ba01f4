import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '@shopstream/local-servers'
import { ownEnvironment } from '../../environment.mjs'
import { type Surroundings, serviceEnvironment, serviceNames, urlOf } from './services.ts'
import { writePrivate } from './state-folder.ts'

/** For every service: lines that the stack can read, its death with the stack's, code that is compiled once. */
const stackEnvironment = {
  LOG_FORMAT: 'json',
  SHOPSTREAM_STACK_PID: String(process.pid),
  NODE_COMPILE_CACHE: join(cacheFolder, 'compiled'),
  MALLOC_ARENA_MAX: '1',
}

/** The environment of a process of the stack's, from what it inherits and what is its own. */
export const processEnvironment = (env: NodeJS.ProcessEnv, own: Record<string, string>): NodeJS.ProcessEnv => ({
  ...inherited(env),
  ...own,
  ...stackEnvironment,
})

/** The environment that services inherit: not npm's own, nor flags that were meant for this process or for others. */
export function inherited(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const foreign = /^(npm_|NODE_OPTIONS$|NODE_USE_ENV_PROXY$|NODE_CHANNEL|JEST_WORKER_ID$|PORT$|HOST$)/
  return Object.fromEntries(Object.entries(ownEnvironment(env)).filter(([name]) => !foreign.test(name)))
}

/**
 * What sends the spans of services to the Zipkin at `port`. Nothing where the environment has a place for them, such as a
 * collector that sends them on to this Zipkin.
 */
export function tracesEnvironment(env: NodeJS.ProcessEnv, port: number): Record<string, string> {
  const places = ['OTEL_TRACES_EXPORTER', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']
  if (places.some((name) => env[name])) return {}
  return { OTEL_TRACES_EXPORTER: 'zipkin', OTEL_EXPORTER_ZIPKIN_ENDPOINT: `${urlOf(port)}/api/v2/spans` }
}

/** One file per service with its environment, to run one alone: `node --env-file=.shopstream/env/order.env …`. */
export function writeEnvironments(home: string, around: Surroundings): void {
  const folder = join(home, 'env')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  for (const name of serviceNames) {
    const lines = Object.entries(serviceEnvironment(name, around)).map(([key, value]) => `${key}=${quoted(value)}\n`)
    writePrivate(join(folder, `${name}.env`), lines.join(''))
  }
}

/** As `node --env-file` reads it: there is no escape, but a choice of quotes. */
const quoted = (value: string) => {
  const quote = ["'", '"', '`'].find((one) => !value.includes(one)) ?? "'"
  return `${quote}${value}${quote}`
}
