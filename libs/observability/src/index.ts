export { Counter, Gauge, Histogram, Registry } from 'prom-client'
export { createLogger, type Logger, type LoggerOptions } from './logger.ts'
export { createMetrics, type GaugeOf, measureTogether } from './metrics.ts'
export { childOf, currentTrace, formatTraceparent, parseTraceparent, runInTrace, type TraceContext } from './trace.ts'
