import type { Topic } from '@shopstream/events'
import kafkajs, { type Admin } from 'kafkajs'
import { pause } from '../../../async.ts'
import type { EnsuredTopics } from '../../bus.ts'
import { configEntries, lengths, longerOf } from '../topic-settings.ts'

/** Ms that the controller has to make topics; a busy one needs more than the 5 s that KafkaJS gives it. */
const creatingLimit = 10_000

/** See `Bus.ensureTopics`. */
export async function ensureTopics(admin: Admin, topics: Topic[]): Promise<EnsuredTopics> {
  const existing = new Set(await admin.listTopics())
  const missing = topics.filter(({ name }) => !existing.has(name))
  const replicationFactor = Math.min(3, (await admin.describeCluster()).brokers.length)
  if (missing.length > 0) await create(admin, missing, replicationFactor)
  await leadersOf(
    admin,
    missing.map(({ name }) => name),
  )
  const present = topics.filter(({ name }) => existing.has(name))
  const longer = present.length > 0 ? await adjust(admin, present) : []
  return { made: missing.map(({ name }) => name), longer }
}

/** A busy controller answers that its time was over, having made the topics or not: it is asked again. */
async function create(admin: Admin, topics: Topic[], replicationFactor: number, attempts = 3): Promise<void> {
  try {
    await admin.createTopics({
      timeout: creatingLimit,
      waitForLeaders: false, // KafkaJS's own waiting throws while the broker has not heard of the topics yet
      topics: topics.map(({ name, partitions, settings }) => ({
        topic: name,
        numPartitions: partitions,
        replicationFactor,
        configEntries: configEntries(settings, replicationFactor),
      })),
    })
  } catch (error) {
    const answers = error instanceof kafkajs.KafkaJSAggregateError ? error.errors : [error]
    const typesOf = (answer: unknown) => (answer as { type?: string }).type ?? ''
    const serious = answers.find((answer) => !['TOPIC_ALREADY_EXISTS', 'REQUEST_TIMED_OUT'].includes(typesOf(answer)))
    if (serious || attempts === 1) throw serious ?? answers[0]
    await create(admin, topics, replicationFactor, attempts - 1)
  }
}

/** See `Bus.addPartitions`. */
export async function addPartitions(admin: Admin, topic: string, count: number): Promise<void> {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  if ((topics[0]?.partitions.length ?? 0) >= count) return
  await admin.createPartitions({ timeout: creatingLimit, topicPartitions: [{ topic, count }] })
  await leadersOf(admin, [topic], count)
}

/** Gives topics that are there the settings that they are to have. Throws where keys would be placed in partitions that are not. */
async function adjust(admin: Admin, topics: Topic[]): Promise<EnsuredTopics['longer']> {
  const metadata = await admin.fetchTopicMetadata({ topics: topics.map(({ name }) => name) })
  const partitionsOf = new Map(metadata.topics.map(({ name, partitions }) => [name, partitions]))
  for (const { name, partitions } of topics) {
    const found = partitionsOf.get(name)?.length
    if ((found ?? 0) < partitions)
      throw new Error(
        `topic ${name} has ${found} partitions, and was declared with ${partitions}: it was made by others`,
      )
  }
  const replicas = (name: string) =>
    Math.min(...(partitionsOf.get(name) ?? []).map((partition) => partition.replicas.length))
  const longer = longerOf(topics, await lengthsOf(admin, topics))
  const left = new Map(longer.map(({ topic, settings }) => [topic, settings]))
  await admin.alterConfigs({
    validateOnly: false,
    resources: topics.map(({ name, settings }) => ({
      type: kafkajs.ConfigResourceTypes.TOPIC,
      name,
      configEntries: configEntries({ ...settings, ...left.get(name) }, replicas(name)),
    })),
  })
  return longer
}

/** How long the broker keeps what is in these topics. */
async function lengthsOf(admin: Admin, topics: Topic[]) {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: topics.map(({ name }) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames: lengths })),
  })
  return resources.flatMap(({ resourceName: topic, configEntries: found }) =>
    found.map(({ configName, configValue }) => ({ topic, name: configName, value: configValue })),
  )
}

/** Waits until each partition of these topics has a leader. Throws after 20 s with what the broker said last. */
async function leadersOf(admin: Admin, topics: string[], count = 1): Promise<void> {
  if (topics.length === 0) return
  const deadline = performance.now() + 20_000
  for (;;) {
    try {
      const { topics: found } = await admin.fetchTopicMetadata({ topics })
      if (found.every(({ partitions }) => partitions.length >= count && partitions.every(({ leader }) => leader >= 0)))
        return
      if (performance.now() > deadline) throw new Error('new partitions have no leaders yet')
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    await pause(50)
  }
}
