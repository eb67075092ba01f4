import type { LockEntry } from '@shopstream/events/registry'
import { shortName } from '@shopstream/events/schema'
import { topics as ourTopics, type Topic } from '@shopstream/events/topics'

/** How to write with a schema that is registered, by the settings that Confluent's clients share. */
export const settings =
  'Set auto.register.schemas=false, use.latest.version=true and subject.name.strategy to RecordNameStrategy ' +
  '(in Python record_subject_name_strategy)'

/**
 * The subjects of a lock. They are full names of records; Confluent's clients ask for others as well, which they make of
 * the topic, since that is how they name subjects unless they are told otherwise.
 */
export function subjectsOf(lock: readonly LockEntry[], topics: readonly Topic[] = ourTopics) {
  const bySubject = Map.groupBy(lock, ({ subject }) => subject)
  const names = [...bySubject.keys()].sort()
  const recordsIn = (topic: Topic): string[] =>
    names.filter((name) => (topic.events as readonly string[]).includes(shortName(name)))
  const topicOf = (subject: string) => topics.find(({ name }) => subject.startsWith(`${name}-`))

  /** The records that may be meant by a subject: more than one by a topic's. */
  const recordsOf = (subject: string): string[] => {
    if (bySubject.has(subject)) return [subject]
    const topic = topicOf(subject)
    if (!topic) return []
    const rest = subject.slice(topic.name.length + 1)
    return recordsIn(topic).filter((record) => rest === 'value' || rest === record)
  }

  return {
    names,
    /** The versions of the one record that is meant by a subject; undefined when it is none or not clear. */
    rows(subject: string): LockEntry[] | undefined {
      const isTopic = topicOf(subject) !== undefined && subject.endsWith('-value')
      const [record] = isTopic ? [] : recordsOf(subject)
      return record === undefined ? undefined : bySubject.get(record)
    },
    /** The versions of all records that may be meant. With the text of a schema at hand it is clear which one is. */
    candidates: (subject: string): LockEntry[] => recordsOf(subject).flatMap((record) => bySubject.get(record) ?? []),
    /** What to ask for instead of a subject that is none. */
    help(subject: string): string {
      const topic = topicOf(subject)
      const records = topic ? recordsIn(topic).join(', ') : `such as ${names[0]}`
      if (topic && subject.endsWith('-key')) return `The keys of ${topic.name} are text, without a schema`
      return topic
        ? `Subjects are full names of records, in ${topic.name} ${records}. ${settings}`
        : `Subjects are full names of records, ${records}. ${settings}`
    },
  }
}
