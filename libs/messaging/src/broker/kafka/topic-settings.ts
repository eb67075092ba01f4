/**
 * A topic's settings, and that all of its replicas but one must have what is acknowledged: with Kafka's default of one, the
 * leader alone may have acknowledged what dies with it.
 */
export const configEntries = (settings: Record<string, string>, replicas: number) =>
  Object.entries({ 'min.insync.replicas': String(Math.max(1, replicas - 1)), ...settings }).map(([name, value]) => ({
    name,
    value,
  }))
