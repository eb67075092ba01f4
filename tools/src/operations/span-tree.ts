import { clock, table } from '../terminal/format.ts'
import { shown } from '../terminal/printing.ts'

/** A piece of work as a trace store knows it. */
export interface StoredSpan {
  traceId: string
  spanId: string
  parentId: string | undefined
  service: string
  name: string
  /** Since 1970, in µs. */
  start: number
  /** In µs. */
  duration: number
  /** Whom it asks, where it asks another service. */
  peer: string | undefined
  /** The word that says what failed; undefined where it was done. */
  error: string | undefined
}

/** The part of Zipkin's JSON that is read: https://zipkin.io/zipkin-api/. */
export interface ZipkinSpan {
  traceId: string
  id: string
  parentId?: string
  name?: string
  kind?: string
  timestamp?: number
  duration?: number
  localEndpoint?: { serviceName?: string }
  tags?: Record<string, string>
}

export const fromZipkin = (spans: readonly ZipkinSpan[]): StoredSpan[] =>
  spans.map(({ traceId, id, parentId, name, kind, timestamp = 0, duration = 0, localEndpoint, tags = {} }) => ({
    traceId,
    spanId: id,
    parentId,
    service: localEndpoint?.serviceName ?? 'unknown',
    name: name ?? '',
    start: timestamp,
    duration,
    peer: kind === 'CLIENT' ? tags['server.address'] : undefined,
    error: tags['otel.status_code'] === 'ERROR' || 'error' in tags ? (tags['error.type'] ?? 'error') : undefined,
  }))

interface Attribute {
  key: string
  value: { stringValue?: string }
}

/** The part of OTLP's JSON that is read. */
export interface ExportedSpans {
  resourceSpans?: {
    resource: { attributes?: Attribute[] }
    scopeSpans: { spans: OtlpSpan[] }[]
  }[]
}

interface OtlpSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind?: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes?: Attribute[]
  status?: { code?: number }
}

const isError = 2
const isClient = 3

export const fromOtlp = ({ resourceSpans = [] }: ExportedSpans): StoredSpan[] =>
  resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        traceId: span.traceId,
        spanId: span.spanId,
        parentId: span.parentSpanId || undefined,
        service: textOf(resource.attributes, 'service.name') ?? 'unknown',
        name: span.name,
        start: microseconds(span.startTimeUnixNano),
        duration: microseconds(span.endTimeUnixNano) - microseconds(span.startTimeUnixNano),
        peer: span.kind === isClient ? textOf(span.attributes, 'server.address') : undefined,
        error: span.status?.code === isError ? (textOf(span.attributes, 'error.type') ?? 'error') : undefined,
      })),
    ),
  )

const textOf = (attributes: Attribute[] = [], name: string) =>
  attributes.find(({ key }) => key === name)?.value.stringValue
const microseconds = (nanoseconds: string) => Number(BigInt(nanoseconds) / 1_000n)

/**
 * One trace as a tree, a line each: service and span, when it began after the first one, how long it took, what failed.
 * A span whose parent is not among them, such as that of a client, stands at the left.
 */
export function treeOf(spans: readonly StoredSpan[]): string[] {
  const ordered = spans.toSorted((a, b) => a.start - b.start)
  const ids = new Set(ordered.map(({ spanId }) => spanId))
  const first = ordered[0]?.start ?? 0
  const below = Map.groupBy(ordered, ({ parentId }) => (parentId && ids.has(parentId) ? parentId : ''))
  const rowsBelow = (parent: string, depth: number): string[][] =>
    (below.get(parent) ?? []).flatMap((span) => [rowOf(span, depth, first), ...rowsBelow(span.spanId, depth + 1)])
  const services = new Set(ordered.map(({ service }) => service))
  const failed = ordered.filter(({ error }) => error !== undefined).length
  return [
    `Trace ${shown(ordered[0]?.traceId ?? '')}: ${ordered.length} spans of ${services.size} services, ${failed} failed, begun at ${clock(new Date(first / 1_000))}`,
    ...table(rowsBelow('', 0)),
  ]
}

const rowOf = ({ service, name, peer, start, duration, error }: StoredSpan, depth: number, first: number): string[] => [
  `${'  '.repeat(depth)}${shown(service)} ${shown(name)}${peer === undefined ? '' : ` → ${shown(peer)}`}`,
  `+${milliseconds(start - first)} ms`,
  `${milliseconds(duration)} ms`,
  error === undefined ? '' : `failed: ${shown(error)}`,
]

const milliseconds = (value: number) => (value / 1_000).toFixed(1)
