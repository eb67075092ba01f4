import { collectDefaultMetrics, Registry } from 'prom-client'

/** A registry of its own for one process: every metric gets the label `service`, and the process's own are in it. */
export function createMetrics(service: string): Registry {
  const registry = new Registry()
  registry.setDefaultLabels({ service })
  collectDefaultMetrics({ register: registry })
  return registry
}
