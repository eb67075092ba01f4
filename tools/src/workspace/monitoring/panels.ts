/** A query of a panel, in PromQL; `$__rate_interval` and `$__range` are Grafana's. */
export interface Query {
  expr: string
  /** The legend, with labels as `{{service}}`. */
  legend: string
}

/** A panel of a dashboard. */
export interface Panel {
  title: string
  /** What it says, and what is wrong when it looks otherwise. */
  description: string
  /** Of Grafana: `s`, `bytes`, `short`, `percentunit`, `cpm` (counts per minute). */
  unit: 's' | 'bytes' | 'short' | 'percentunit' | 'cpm'
  queries: Query[]
  /** One number for each series instead of lines. */
  stat?: true
  /** Lines lie on each other, as they are parts of a whole. */
  stacked?: true
  /** Shows the traces that the services give with their buckets. */
  exemplars?: true
}

export interface Dashboard {
  /** Of its file and address. */
  name: string
  title: string
  rows: { title: string; panels: Panel[] }[]
}

export const perMinute = (by: string, counter: string) => `60 * sum by (${by}) (rate(${counter}[$__rate_interval]))`
/** Without the series that were 0 all the time: of 20 types a small shop makes five. */
export const perMinuteIfAny = (by: string, counter: string) =>
  `${perMinute(by, counter)}\n  and sum by (${by}) (increase(${counter}[$__range])) > 0`
export const quantile = (share: number, by: string, histogram: string) =>
  `histogram_quantile(${share}, sum by (${by}) (rate(${histogram}[$__rate_interval])))`
export const one = (expr: string, legend: string): Query[] => [{ expr, legend }]
/** Lines of several quantiles of one histogram. */
export const quantiles = (histogram: string, by = 'le', legend = '') =>
  [0.5, 0.95, 0.99].map((share) => ({
    expr: quantile(share, by, histogram),
    legend: `${legend} ${share * 100} %`.trim(),
  }))
