import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Topic } from '@shopstream/events'
import { readIfThere } from './files.ts'
import type { Finding } from './findings.ts'

export const topicsLockFile = 'schemas/topics.lock.json'
export const topicsFile = 'libs/events/src/catalogue/topics.ts'

/** What of a topic cannot change while it has messages or readers: by its name, its key, partitions, cleanup, events. */
export type TopicsLock = Record<string, Pick<Topic, 'key' | 'partitions' | 'cleanup' | 'events'>>

/** The topics of a workspace, from its `topics.ts`; the table in memory is another one once the file has been edited. */
export async function readTopics(root: string): Promise<readonly Topic[]> {
  const file = join(root, topicsFile)
  if (!existsSync(file)) throw new Error(`${topicsFile} is missing: restore it`)
  const { topics } = (await import(pathToFileURL(file).href)) as { topics: readonly Topic[] }
  return topics
}

/** The topics that are locked. Throws `SyntaxError` when the file is no JSON. No file is an empty lock. */
export function readTopicsLock(root: string): TopicsLock {
  return JSON.parse(readIfThere(join(root, topicsLockFile)) ?? '{}')
}

/** The lock with the topics and events that it lacks. Nothing in it is altered. */
export function extendTopicsLock(locked: TopicsLock, topics: readonly Topic[]): TopicsLock {
  const rows = topics.map(({ name, key, partitions, cleanup, events }) => {
    const before = locked[name]
    const added = events.filter((event) => !before?.events.includes(event))
    return [name, { ...(before ?? { key, partitions, cleanup }), events: [...(before?.events ?? []), ...added] }]
  })
  return { ...locked, ...Object.fromEntries(rows) }
}

/** A line for each topic. */
export function printTopicsLock(locked: TopicsLock): string {
  const rows = Object.entries(locked).map(([name, row]) => `${JSON.stringify(name)}:${JSON.stringify(row)}`)
  return `{\n${rows.join(',\n')}\n}\n`
}

/** Why each of the locked properties stays. */
const reasons = {
  key: 'messages of one aggregate would lose their order, and compaction would keep the wrong ones',
  partitions: 'keys would move to other partitions, past messages of theirs that are not yet read',
  cleanup: 'messages that consumers rely on would be deleted, or kept although they must not be',
} as const

/**
 * What of the topics is not as it is locked. `services` says who reads and writes the events of a topic, in words and
 * as properties of a finding.
 */
export function topicFindings(
  locked: TopicsLock,
  topics: readonly Topic[],
  services: (events: readonly string[]) => { words: string; consumers: string[]; producers: string[] },
): Finding[] {
  const now = new Map(topics.map((topic) => [topic.name, topic]))
  const known = Object.entries(locked).flatMap(([name, before]) => {
    const { words, ...parties } = services(before.events)
    const finding = (message: string): Finding => ({
      rule: 'topic-changed',
      path: topicsFile,
      message: `${message}. ${words}`,
      ...parties,
    })
    const topic = now.get(name)
    if (!topic) return [finding(`${name} is gone: its messages and readers are not. Restore the topic`)]
    const changed = (['key', 'partitions', 'cleanup'] as const)
      .filter((property) => topic[property] !== before[property])
      .map((property) =>
        finding(
          `${property} of ${name} is ${JSON.stringify(topic[property])} and was ${JSON.stringify(before[property])}: ` +
            `${reasons[property]}. Restore it, or add a topic of the next version (${nextName(name)}) and move to it`,
        ),
      )
    const missing = before.events
      .filter((event) => !(topic.events as readonly string[]).includes(event))
      .map((event) =>
        finding(
          `${event} is no longer in ${name}: its order with the topic's other events would be lost, ` +
            'and what is in the topic stays there. Put it back; a new meaning is a new event',
        ),
      )
    return [...changed, ...missing]
  })
  const unlocked = printTopicsLock(extendTopicsLock(locked, topics)) !== printTopicsLock(locked)
  const pending: Finding = {
    rule: 'topic-unregistered',
    path: topicsLockFile,
    message: `lacks a topic or event of ${topicsFile}: run \`npm run schemas -- register\``,
  }
  return [...known, ...(unlocked ? [pending] : [])]
}

const nextName = (name: string) => name.replace(/\d+$/, (version) => String(Number(version) + 1))

/** Rows of the base that are altered or gone. */
export function topicsHistory(base: TopicsLock, locked: TopicsLock, ref: string): Finding[] {
  const text = (row: TopicsLock[string] | undefined) => row && JSON.stringify([row.key, row.partitions, row.cleanup])
  return Object.entries(base)
    .filter(([name, row]) => {
      const now = locked[name]
      return text(now) !== text(row) || row.events.some((event) => !now?.events.includes(event))
    })
    .map(([name]) => ({
      rule: 'lock-history',
      path: topicsLockFile,
      message: `${name} is not as it is in ${ref}: rows are never altered or removed. Restore it`,
    }))
}
