import { expect, test } from '@jest/globals'
import { deadLetterTopic, newEventId, registry, topicOf, topics } from '../index.ts'
import { shortName } from '../schema/schema.ts'

test('every registered event is in exactly one topic, the one of its aggregate', () => {
  const listed = topics.flatMap(({ events }) => events)
  const registered = new Set(registry.map(({ subject }) => shortName(subject)))
  expect(listed.toSorted()).toEqual([...registered].sort())
  for (const { subject } of registry) {
    const [, aggregate = '', event] = subject.split('.')
    expect(topicOf(event as never).name).toBe(`shop.${aggregate.replaceAll('_', '-')}.v1`)
  }
})

test('settings say what the catalogue says', () => {
  const week = 7 * 24 * 60 * 60 * 1000
  for (const { cleanup, settings, partitions } of topics) {
    const own = cleanup === 'compact' ? 'min.compaction.lag.ms' : 'retention.ms'
    expect(settings).toEqual({
      'cleanup.policy': cleanup,
      [own]: String(week),
      'message.timestamp.type': 'LogAppendTime',
    })
    expect(partitions).toBe(6)
  }
})

test('dead letters outlive the topics they come from and fit a whole event with its headers', () => {
  const { name, retentionMs, settings } = deadLetterTopic('order')
  expect(name).toBe('shop.order.dlq')
  expect(retentionMs).toBeGreaterThan(30 * 24 * 60 * 60 * 1000)
  expect(settings).toMatchObject({ 'retention.ms': String(retentionMs), 'max.message.bytes': '2097152' })
})

test('ids are UUIDs of version 7 and sort as they were made', () => {
  const ids = Array.from({ length: 1000 }, newEventId)
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  expect(ids.toSorted()).toEqual(ids)
  expect(new Set(ids).size).toBe(ids.length)
})
