/**
 * A topic's settings, with the rule that all replicas but one must have an acknowledged record: with Kafka's default of
 * one, the leader alone acknowledges a record, which is lost when it dies.
 */
export const configEntries = (settings: Record<string, string>, replicas: number) =>
  Object.entries({ 'min.insync.replicas': String(Math.max(1, replicas - 1)), ...settings }).map(([name, value]) => ({
    name,
    value,
  }))
