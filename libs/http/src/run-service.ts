import {
  ConfigError,
  describeSettings,
  readConfig,
  type Static,
  type serviceSettings,
  type TObject,
} from '@shopstream/config'
import { createLogger, type Logger, startTracing } from '@shopstream/observability'
import { giveBackStartMemory } from '@shopstream/observability/start-memory'

/** What `main.ts` runs. */
export interface Service {
  /** Resolves when requests are taken. Throws when that will never be so. */
  start(): Promise<void>
  /** Finishes what is in hand and closes everything. */
  stop(): Promise<void>
  /** Of one with a database: brings its tables up to date, and does nothing else. */
  migrate?(): Promise<void>
}

export interface ServiceOptions<S extends TObject> {
  name: string
  /** The schema of its environment; holds `serviceSettings`. */
  config: S
  build(config: Readonly<Static<S>>, logger: Logger): Promise<Service>
}

type ServiceConfig = Static<TObject<typeof serviceSettings>>

const usageOf = (name: string, schema: TObject) => `Usage: node main.js            runs the ${name} service
       node main.js migrate    brings its database up to date and ends; a start does so as well

Settings, by environment; a secret or a URL may also stand in a file that NAME_FILE names:
${describeSettings(schema)
  .map((line) => `  ${line}`)
  .join('\n')}`

/**
 * A process's life: reads its environment (everything that is wrong is printed, exit code 1, before anything starts),
 * builds and starts the service, stops it on SIGTERM and SIGINT within SHUTDOWN_TIMEOUT_MS (exit code 0, else 1).
 * An error that nobody handled is logged and ends the process (exit code 1), so that it is started anew.
 * With the argument `migrate` it only brings the database up to date and ends; stopped before that is done, with exit code 1.
 */
export async function runService<S extends TObject<typeof serviceSettings>>({
  name,
  config: schema,
  build,
}: ServiceOptions<S>): Promise<void> {
  const [command] = process.argv.slice(2)
  if (command !== undefined && command !== 'migrate') {
    const isHelp = command === '--help' || command === '-h'
    process[isHelp ? 'stdout' : 'stderr'].write(`${usageOf(name, schema)}\n`)
    process.exit(isHelp ? 0 : 2)
  }
  const config = configOrExit(name, schema)
  const { LOG_LEVEL, LOG_FORMAT, SHUTDOWN_TIMEOUT_MS } = config as unknown as ServiceConfig
  const logger = createLogger({ service: name, level: LOG_LEVEL, format: LOG_FORMAT })
  const fail = (message: string) => (error: unknown) => {
    try {
      logger.fatal({ err: error }, message)
    } finally {
      process.exit(1)
    }
  }
  process.on('uncaughtException', fail('an error that nobody handled'))
  process.on('unhandledRejection', fail('a rejection that nobody handled'))

  let service: Service | undefined
  let sendLastSpans = async () => {}
  let isStopping = false
  /** @param code that the process ends with. */
  const end = (code: number) => {
    isStopping = true
    setTimeout(() => fail(`not stopped after ${SHUTDOWN_TIMEOUT_MS} ms`)(undefined), SHUTDOWN_TIMEOUT_MS).unref()
    Promise.resolve(service?.stop())
      .then(() => sendLastSpans())
      .then(() => {
        logger.info('stopped')
        process.exit(code)
      }, fail('failed while stopping'))
  }
  const stop = (signal: NodeJS.Signals) => {
    if (isStopping) return // Ctrl-C sends SIGINT to the whole group, and whoever supervises it adds a SIGTERM
    logger.info({ signal }, 'stopping')
    end(command === undefined ? 0 : 1) // what was to be migrated may not be
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)

  try {
    sendLastSpans = await startTracing(name, logger)
    service = await build(config, logger)
    if (isStopping) return
    if (command === undefined) {
      await service.start()
      giveBackStartMemory().catch((error) => logger.debug({ err: error }, 'what the start has taken is kept'))
      return
    }
    if (!service.migrate) throw new Error(`the ${name} service has no database`)
    await service.migrate()
    if (!isStopping) end(0)
  } catch (error) {
    if (!isStopping) fail('cannot start')(error)
  }
}

function configOrExit<S extends TObject>(name: string, schema: S): Readonly<Static<S>> {
  try {
    return readConfig(schema)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${name} cannot start. ${error.message}\n`)
    process.exit(1)
  }
}
