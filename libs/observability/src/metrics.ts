import {
  collectDefaultMetrics,
  Gauge,
  type Histogram,
  type OpenMetricsContentType,
  Registry as PromRegistry,
} from 'prom-client'

/** In OpenMetrics' text, which alone can hold exemplars. */
export class Registry extends PromRegistry<OpenMetricsContentType> {
  constructor() {
    super()
    this.setContentType(PromRegistry.OPENMETRICS_CONTENT_TYPE)
  }
}

/**
 * How often the delay of the event loop is sampled, in ms, which is also the least that it shows. Each sample wakes the process: at
 * prom-client's 10 ms that was 0.2 of the 0.6 CPU seconds a minute that a service at rest took.
 */
const eventLoopMonitoringPrecision = 50

/** A registry of its own for one process: every metric gets the label `service`, and the process's own are in it. */
export function createMetrics(service: string): Registry {
  const registry = new Registry()
  registry.setDefaultLabels({ service })
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision })
  new Gauge({
    name: 'shopstream_service_info',
    help: '1 in every service of the shop, from its start: what other programs measure alike is none of it.',
    registers: [registry],
  }).set(1)
  return registry
}

/**
 * Observes, and keeps the trace as the exemplar of its bucket: who sees a slow one in a graph finds its logs, and its spans
 * where they are recorded. The histogram has `enableExemplars`.
 */
export function observeInTrace(
  histogram: Histogram<string>,
  labels: Record<string, string | number>,
  value: number,
  traceId: string | undefined,
): void {
  histogram.observe({ labels, value, ...(traceId !== undefined && { exemplarLabels: { trace_id: traceId } }) })
}

/** A gauge that shows a part of what was found: a number, or one for each value of its label. */
export type GaugeOf<T> =
  | { name: string; help: string; value: (found: T) => number }
  | { name: string; help: string; labelNames: [string]; values: (found: T) => Record<string, number> }

/** Well below the 10 s that Prometheus waits: one look that hangs, in a database, must not take all other metrics along. */
const lookLimitMs = 3_000

/** Throws when there is no answer in time. */
async function inTime<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not measured within ${lookLimitMs} ms`)), lookLimitMs)
  })
  return Promise.race([answer, late]).finally(() => clearTimeout(timer))
}

/**
 * Gauges that are measured by one look, each time the metrics are read. None of them is shown when `look` throws, or is
 * late, which is told to `failed`.
 */
export function measureTogether<T>(
  registry: Registry,
  look: () => Promise<T>,
  failed: (error: unknown) => void,
  gauges: readonly GaugeOf<T>[],
): void {
  let looking: Promise<T> | undefined
  let waiting: Promise<T | undefined> | undefined
  /** One look at a time, also when it is late: the registry asks all gauges at once. */
  const lookOnce = () => {
    looking ??= look().finally(() => {
      looking = undefined
    })
    waiting ??= inTime(looking)
      .catch((error) => void failed(error))
      .finally(() => {
        waiting = undefined
      })
    return waiting
  }
  for (const { name, help, ...shown } of gauges)
    new Gauge<string>({
      name,
      help,
      labelNames: 'labelNames' in shown ? shown.labelNames : [],
      registers: [registry],
      async collect() {
        const found = await lookOnce()
        if ('value' in shown) {
          if (found === undefined) this.remove()
          else this.set(shown.value(found))
        } else {
          this.reset()
          const values = found === undefined ? {} : shown.values(found)
          for (const [label, value] of Object.entries(values)) this.set({ [shown.labelNames[0]]: label }, value)
        }
      },
    })
}
