import { createRequire } from 'node:module'
import { type Bindings, type ChildLoggerOptions, type DestinationStream, type Logger as PinoLogger, pino } from 'pino'
import type { PinoPretty as PrettyStream } from 'pino-pretty'
import { redact } from './redact.ts'
import { currentTrace } from './trace.ts'

/** A pino logger; see {@link createLogger} for what it adds and leaves out. */
export type Logger = PinoLogger

export interface LoggerOptions {
  service: string
  /** `trace`, `debug`, `info`, `warn`, `error`, `fatal` or `silent`. */
  level: string
  /** JSON lines for machines, or readable ones for people. */
  format: 'json' | 'pretty'
}

/**
 * A logger to standard output, or to `destination`, that adds the service and the current trace's id to each line, and
 * replaces fields that hold secrets or personal data, at any depth, also in bindings of children.
 * It looks at names of fields: never put such data into a message's text.
 */
export function createLogger({ service, level, format }: LoggerOptions, destination?: DestinationStream): Logger {
  const logger = pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: redactFields,
      },
      // Errors are described by `redact` already; pino's own serializer would copy every property of them.
      serializers: { err: (error) => redact(error) },
      mixin: () => {
        const trace = currentTrace()
        return trace ? { traceId: trace.traceId } : {}
      },
    },
    format === 'pretty' ? prettyStream(destination) : (destination ?? pino.destination({ sync: true })),
  )
  return redactChildren(logger)
}

/** Pino asks `formatters.bindings` for the first logger only, so children's bindings are redacted on their way in. */
function redactChildren(logger: Logger): Logger {
  const { child } = logger
  function redactedChild(this: Logger, bindings: Bindings, options?: ChildLoggerOptions) {
    return Reflect.apply(child, this, [redactFields(bindings), options])
  }
  logger.child = redactedChild as unknown as Logger['child']
  return logger
}

const redactFields = (fields: object) => redact(fields) as Record<string, unknown>

/** Written synchronously, so that the last words of a process that ends are seen; loaded only here, it costs 50 ms. */
function prettyStream(destination: DestinationStream | undefined): DestinationStream {
  const pretty = createRequire(import.meta.url)('pino-pretty') as typeof PrettyStream
  return pretty({
    sync: true,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'pid,hostname,service,traceId,requestId',
    singleLine: true,
    ...(destination && { destination }),
  })
}
