import type { Topic } from '@shopstream/events'
import type { EnsuredTopics } from '../bus.ts'

/**
 * A topic's settings, with the rule that all replicas but one must have an acknowledged record: with Kafka's default of
 * one, the leader alone acknowledges a record, which is lost when it dies.
 */
export const configEntries = (settings: Record<string, string>, replicas: number) =>
  Object.entries({ 'min.insync.replicas': String(Math.max(1, replicas - 1)), ...settings }).map(([name, value]) => ({
    name,
    value,
  }))

/** How long a topic keeps what somebody may still have to read, in ms; -1: for ever. */
export const lengths = ['retention.ms', 'min.compaction.lag.ms']

/** What topics keep for longer than they are declared with; those that do not are left out. */
export function longerOf(
  topics: readonly Topic[],
  found: readonly { topic: string; name: string; value: string | null }[],
): EnsuredTopics['longer'] {
  const ms = (value: string) => (Number(value) < 0 ? Number.POSITIVE_INFINITY : Number(value))
  return topics.flatMap(({ name: topic, settings }) => {
    const longer = found.flatMap(({ name, value, ...of }) => {
      const declared = of.topic === topic ? settings[name] : undefined
      return declared !== undefined && value !== null && ms(value) > ms(declared) ? [[name, value] as const] : []
    })
    return longer.length > 0 ? { topic, settings: Object.fromEntries(longer) } : []
  })
}
