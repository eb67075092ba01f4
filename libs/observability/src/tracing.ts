import type { Logger } from './logger.ts'
import type { Recorder, SpanOptions } from './spans.ts'
import { Failure, recordSpans } from './spans.ts'
import type { TraceContext } from './trace.ts'

/** How long the last spans may take to go out when a process stops, in ms: less than a stop has left when all else has ended. */
const flushMs = 1_000
/** A collector that is away is told this often at the most, in ms. */
const tellEveryMs = 60_000

/** Whether the environment asks for spans, by OpenTelemetry's variables; without any of them there are none. */
function isAskedFor(env: NodeJS.ProcessEnv): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return false
  const { OTEL_TRACES_EXPORTER: exporter } = env
  if (exporter) return exporter !== 'none'
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
}

/**
 * Exports spans as OpenTelemetry's environment says: OTEL_TRACES_EXPORTER (`otlp`, `zipkin`, `console` or `none`),
 * OTEL_EXPORTER_OTLP_ENDPOINT and its kin, OTEL_EXPORTER_OTLP_PROTOCOL (`http/protobuf` or `http/json`),
 * OTEL_EXPORTER_ZIPKIN_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_BSP_…, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME. The library is loaded only then: off, it costs nothing.
 * Returns what sends the last spans out. Throws for an exporter or a protocol that there is not.
 */
export async function startTracing(
  service: string,
  logger: Logger,
  env: NodeJS.ProcessEnv = process.env,
): Promise<() => Promise<void>> {
  if (!isAskedFor(env)) return async () => {}
  const { DiagLogLevel, diag, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = await import('@opentelemetry/api')
  const { BasicTracerProvider, BatchSpanProcessor } = await import('@opentelemetry/sdk-trace-base')
  const { defaultResource, detectResources, envDetector, resourceFromAttributes } = await import(
    '@opentelemetry/resources'
  )
  diag.setLogger(troubleLogger(logger), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
  const named = resourceFromAttributes({ 'service.name': service, 'service.namespace': 'shopstream' })
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(named)
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(await exporterOf(env))],
  })
  const tracer = provider.getTracer('shopstream')
  const kinds: Record<SpanOptions['kind'], number> = {
    server: SpanKind.SERVER,
    client: SpanKind.CLIENT,
    producer: SpanKind.PRODUCER,
    consumer: SpanKind.CONSUMER,
    internal: SpanKind.INTERNAL,
  }
  const contextOf = ({ traceId, spanId, flags }: TraceContext) => ({
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
  })
  const record: Recorder = (name, { kind, parent, links = [], attributes = {} }) => {
    const around = parent ? trace.setSpanContext(ROOT_CONTEXT, contextOf(parent)) : ROOT_CONTEXT
    const options = { kind: kinds[kind], attributes, links: links.map((link) => ({ context: contextOf(link) })) }
    const span = tracer.startSpan(name, options, around)
    const { traceId, spanId, traceFlags } = span.spanContext()
    let isEnded = false
    return {
      context: { traceId, spanId, flags: traceFlags.toString(16).padStart(2, '0') },
      set(more, better) {
        span.setAttributes(more)
        if (better) span.updateName(better)
      },
      end(error) {
        if (isEnded) return
        isEnded = true
        if (error !== undefined) {
          span.setAttribute('error.type', typeOfError(error))
          span.setStatus({ code: SpanStatusCode.ERROR })
        }
        span.end()
      },
    }
  }
  recordSpans(record)
  return async () => {
    recordSpans(undefined)
    const tooLong = new Promise<void>((resolve) => setTimeout(resolve, flushMs).unref())
    const flushed = provider.shutdown().catch((error) => logger.warn({ err: error }, 'the last spans did not go out'))
    await Promise.race([flushed, tooLong]) // a collector that is away keeps no process
  }
}

/** The class of an error, or the word that says what failed: a message may hold what somebody has written. */
function typeOfError(error: unknown): string {
  if (error instanceof Error) return (error as NodeJS.ErrnoException).code ?? error.constructor.name
  return error instanceof Failure ? error.word : typeof error
}

/** What the library says of its own troubles, such as a collector that takes nothing, but not again and again. */
function troubleLogger(logger: Logger) {
  let nextAt = Number.NEGATIVE_INFINITY
  const tell = (message: string) => {
    if (performance.now() < nextAt) return
    nextAt = performance.now() + tellEveryMs
    logger.warn({ reason: message }, 'spans are not exported as they should be')
  }
  return { error: tell, warn: tell, info() {}, debug() {}, verbose() {} }
}

async function exporterOf(env: NodeJS.ProcessEnv) {
  const exporter = env.OTEL_TRACES_EXPORTER || 'otlp'
  if (exporter === 'console') return new (await import('@opentelemetry/sdk-trace-base')).ConsoleSpanExporter()
  if (exporter === 'zipkin') return new (await import('@opentelemetry/exporter-zipkin')).ZipkinExporter()
  if (exporter !== 'otlp')
    throw new Error(`OTEL_TRACES_EXPORTER is ${exporter}, but must be one of otlp, zipkin, console, none`)
  const protocol = env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL || env.OTEL_EXPORTER_OTLP_PROTOCOL || 'http/protobuf'
  if (protocol === 'http/protobuf')
    return new (await import('@opentelemetry/exporter-trace-otlp-proto')).OTLPTraceExporter()
  if (protocol === 'http/json') return new (await import('@opentelemetry/exporter-trace-otlp-http')).OTLPTraceExporter()
  throw new Error(`OTEL_EXPORTER_OTLP_PROTOCOL is ${protocol}, but must be one of http/protobuf, http/json`)
}
