import {
  ConfigResourceTypes,
  createPartitionsV3,
  createTopicsV7,
  describeConfigsV4,
  IncrementalAlterConfigOperationTypes,
  incrementalAlterConfigsV1,
  metadataV9,
} from '@platformatic/kafka'
import type { Topic } from '@shopstream/events'
import { pause } from '../../../async.ts'
import type { EnsuredTopics } from '../../bus.ts'
import type { BrokerAddress } from '../protocol.ts'
import { configEntries, lengths, longerOf } from '../topic-settings.ts'
import type { Cluster } from './cluster.ts'
import { type Connections, timeLimit } from './connections.ts'
import { errors, throwIfError } from './errors.ts'

/** Ms that the controller has to make topics, within those of the answer. */
const creatingLimit = 10_000
/** New topics have leaders within so long, in ms. */
const leadersLimit = 20_000

/** See `Bus.ensureTopics`; names as on the wire. */
export async function ensureTopics(
  { cluster, connections }: { cluster: Cluster; connections: Connections },
  topics: readonly Topic[],
): Promise<EnsuredTopics> {
  const names = topics.map(({ name }) => name)
  const { controller, brokerCount, existing } = await describe(cluster, connections, names)
  const missing = topics.filter(({ name }) => !existing.has(name))
  if (missing.length > 0) {
    await create(connections, controller, missing, Math.min(3, brokerCount))
    await waitForLeaders(cluster, missing)
  }
  const present = topics.filter(({ name }) => existing.has(name))
  const longer = present.length > 0 ? await adjust(connections, controller, present, existing) : []
  return { made: missing.map(({ name }) => name), longer }
}

/** Numbers of replicas of a topic's partitions. */
type Replicas = readonly number[]

interface Description {
  controller: BrokerAddress
  brokerCount: number
  /** Those of the topics that are there. */
  existing: Map<string, Replicas>
}

async function describe(cluster: Cluster, connections: Connections, names: string[]): Promise<Description> {
  const asked = async (broker: BrokerAddress, limitMs: number) => ({
    broker,
    ...(await connections.call(broker, metadataV9.api, [names, false, false], limitMs)),
  })
  const { broker, brokers, controllerId, topics } = await cluster.atAny(asked)
  const found = topics.flatMap(({ name, errorCode, partitions }) => {
    if (!name || errorCode === errors.unknownTopicOrPartition) return []
    if (errorCode !== errors.leaderNotAvailable) throwIfError(`topic ${name}`, errorCode)
    return [[name, partitions.map(({ replicaNodes }) => replicaNodes.length)] as const]
  })
  const controller = brokers.find(({ nodeId }) => nodeId === controllerId) ?? broker
  return { controller, brokerCount: brokers.length, existing: new Map(found) }
}

/** A busy controller answers that its time was over, having made the topics or not: it is asked again. */
async function create(
  connections: Connections,
  controller: BrokerAddress,
  topics: readonly Topic[],
  replicas: number,
  attempts = 3,
): Promise<void> {
  const wanted = topics.map(({ name, partitions, settings }) => ({
    name,
    numPartitions: partitions,
    replicationFactor: replicas,
    assignments: [],
    configs: configEntries(settings, replicas),
  }))
  const answer = await connections.call(
    controller,
    createTopicsV7.api,
    [wanted, creatingLimit, false],
    timeLimit.answer,
  )
  const isLate = ({ errorCode }: { errorCode: number }) => errorCode === errors.requestTimedOut && attempts > 1
  for (const { name, errorCode, errorMessage } of answer.topics.filter((one) => !isLate(one)))
    if (errorCode !== errors.topicExists) throwIfError(`creating ${name}`, errorCode, errorMessage) // somebody else was first
  if (answer.topics.some(isLate)) await create(connections, controller, topics, replicas, attempts - 1)
}

/** See `Bus.addPartitions`; names as on the wire. */
export async function addPartitions(
  { cluster, connections }: { cluster: Cluster; connections: Connections },
  topic: string,
  count: number,
): Promise<void> {
  const { controller, existing } = await describe(cluster, connections, [topic])
  if ((existing.get(topic)?.length ?? 0) >= count) return
  const wanted = [{ name: topic, count, assignments: null }]
  const { results } = await connections.call(
    controller,
    createPartitionsV3.api,
    [wanted, creatingLimit, false],
    timeLimit.answer,
  )
  for (const { errorCode, errorMessage } of results)
    throwIfError(`adding partitions to ${topic}`, errorCode, errorMessage)
  await waitForLeaders(cluster, [{ name: topic, partitions: count }])
}

/** Gives topics that are there the settings that they are to have. Throws where keys would be placed in partitions that are not. */
async function adjust(
  connections: Connections,
  controller: BrokerAddress,
  topics: readonly Topic[],
  existing: ReadonlyMap<string, Replicas>,
): Promise<EnsuredTopics['longer']> {
  for (const { name, partitions } of topics) {
    const found = existing.get(name)?.length
    if ((found ?? 0) < partitions)
      throw new Error(
        `topic ${name} has ${found} partitions, and was declared with ${partitions}: it was made by others`,
      )
  }
  const longer = longerOf(topics, await lengthsOf(connections, controller, topics))
  const left = new Map(longer.map(({ topic, settings }) => [topic, settings]))
  const resources = topics.map(({ name, settings }) => ({
    resourceType: ConfigResourceTypes.TOPIC,
    resourceName: name,
    configs: configEntries({ ...settings, ...left.get(name) }, Math.min(...(existing.get(name) ?? []))).map(
      (entry) => ({
        ...entry,
        configOperation: IncrementalAlterConfigOperationTypes.SET,
      }),
    ),
  }))
  const { responses } = await connections.call(controller, incrementalAlterConfigsV1.api, [resources, false])
  for (const { resourceName, errorCode, errorMessage } of responses)
    throwIfError(`the settings of ${resourceName}`, errorCode, errorMessage)
  return longer
}

/** How long the broker keeps what is in these topics. */
async function lengthsOf(connections: Connections, broker: BrokerAddress, topics: readonly Topic[]) {
  const resources = topics.map(({ name }) => ({
    resourceType: ConfigResourceTypes.TOPIC,
    resourceName: name,
    configurationKeys: lengths,
  }))
  const { results } = await connections.call(broker, describeConfigsV4.api, [resources, false, false])
  return results.flatMap(({ resourceName: topic, configs, errorCode, errorMessage }) => {
    throwIfError(`the settings of ${topic}`, errorCode, errorMessage)
    return configs.map(({ name, value = null }) => ({ topic, name, value }))
  })
}

/** Waits until each partition of these topics has a leader. Throws with what the broker said last when that takes too long. */
async function waitForLeaders(cluster: Cluster, topics: readonly Pick<Topic, 'name' | 'partitions'>[]): Promise<void> {
  const wanted = topics.reduce((sum, { partitions }) => sum + partitions, 0)
  const deadline = performance.now() + leadersLimit
  for (;;) {
    try {
      cluster.forgetLeaders()
      const found = [...(await cluster.leaders(topics.map(({ name }) => name))).values()]
      if (found.filter(({ leader }) => leader).length >= wanted) return
      if (performance.now() > deadline) throw new Error('new partitions have no leaders yet')
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    await pause(50)
  }
}
