import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { newEventId, partitionOf, topicOf } from '@shopstream/events'
import { eventually, type LocalKafkaCluster, startKafkaCluster } from '@shopstream/testing'
import kafkajs from 'kafkajs'
import { keys, patience, startLoad } from './testing/load.ts'
import { openTestShop } from './testing/shop.ts'

let dir: string
let cluster: LocalKafkaCluster

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'shopstream-brokers-'))
  cluster = await startKafkaCluster({ dir: join(dir, 'kafka') })
}, 60_000)

afterAll(async () => {
  await cluster?.stop()
  rmSync(dir, { recursive: true, force: true })
}, 60_000)

const adminOf = ({ brokers }: LocalKafkaCluster) =>
  new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()

test('topics have three replicas, two of which must have what is acknowledged, also after another deployment', async () => {
  const shop = await openTestShop({ brokers: cluster.brokers })
  const admin = adminOf(cluster)
  try {
    await shop.deploy()
    await admin.connect()
    const name = `${shop.broker.topicPrefix}shop.stock.v1`
    const { topics } = await admin.fetchTopicMetadata({ topics: [name] })
    expect(new Set(topics[0]?.partitions.map(({ replicas }) => replicas.length))).toEqual(new Set([3]))
    const asked = { type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames: ['min.insync.replicas'] }
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [asked] })
    expect(resources[0]?.configEntries[0]).toMatchObject({ configName: 'min.insync.replicas', configValue: '2' })
  } finally {
    await admin.disconnect()
    await shop.close()
  }
}, 60_000)

const node = (n: number) => cluster.nodes[n] as LocalKafkaCluster['nodes'][number]

test.each([
  ['killed with -9', () => node(0).kill(), () => node(0).restart()],
  ['stopped in order', () => node(1).stop(), () => node(1).restart()],
  ['frozen', () => node(2).kill('SIGSTOP'), () => node(2).kill('SIGCONT')],
])(
  'one of three is %s while the relay publishes, and comes back: nothing acknowledged is missing',
  async (_, fail, heal) => {
    const shop = await openTestShop({ brokers: cluster.brokers })
    try {
      const child = shop.startProcess('child')
      const load = startLoad(shop)
      await load.handled(10)
      await fail()
      await load.handled(load.rounds + 1)
      await heal()
      await load.handled(load.rounds + 1)
      await load.finish()
      expect(child.isAlive).toBe(true)
    } finally {
      await shop.close()
    }
  },
  300_000,
)

test('the leaders of all partitions move again and again while the relay publishes: nothing acknowledged is missing', async () => {
  const shop = await openTestShop({ brokers: cluster.brokers })
  const admin = adminOf(cluster)
  try {
    await admin.connect()
    const declared = topicOf('StockLevelChanged')
    const topic = shop.broker.topicPrefix + declared.name
    const numbers = Array.from({ length: declared.partitions }, (_, partition) => partition)
    // Nobody consumes in this process, so that it hears of a leader that has moved by publishing to the former one.
    const publisher = shop.bus.publisher('observer')
    const taken = new Set<string>()
    const publish = async () => {
      const messages = numbers.map((partition) => {
        const headers = { ce_type: 'Nobodys', ce_id: newEventId() }
        return { topic: declared.name, partition, key: null, value: Buffer.from('x'), headers }
      })
      for (const { message, error } of await publisher.publish(messages)) if (!error) taken.add(message.headers.ce_id)
    }
    const child = shop.startProcess('child')
    const load = startLoad(shop)
    await load.handled(10)
    await publish()
    for (let turn = 0; turn < 6; turn++) {
      // Whoever led is no replica any more, so that another one leads.
      const replicasOf = (partition: number) => [1, 2].map((place) => 1 + ((partition + turn + place) % 3))
      const partitionAssignment = numbers.map((partition) => ({ partition, replicas: replicasOf(partition) }))
      await admin.alterPartitionReassignments({ topics: [{ topic, partitionAssignment }] })
      await eventually('the leaders to have moved', async () => {
        await publish()
        const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
        return topics[0]?.partitions.every(
          ({ partitionId, leader, replicas }) => replicas.length === 2 && replicasOf(partitionId).includes(leader),
        )
      })
      await load.handled(load.rounds + 1)
    }
    await load.finish()
    const found = new Set<string>()
    await shop.bus.read({
      topics: [declared.name],
      toEnd: true,
      handle(messages) {
        for (const { headers } of messages) found.add(String(headers.ce_id))
      },
    })
    expect(taken.size).toBeGreaterThan(declared.partitions)
    expect([...taken].filter((id) => !found.has(id))).toEqual([])
    await publisher.close()
    expect(child.isAlive).toBe(true)
  } finally {
    await admin.disconnect()
    await shop.close()
  }
}, 300_000)

test('a partition that has too few replicas holds back no other of its topic, and its events wait', async () => {
  const shop = await openTestShop({ brokers: cluster.brokers, deployed: false })
  const admin = adminOf(cluster)
  try {
    await admin.connect()
    const declared = topicOf('StockLevelChanged')
    const numbers = Array.from({ length: declared.partitions }, (_, partition) => partition)
    const replicaAssignment = numbers.map((partition) => ({
      partition,
      replicas: partition % 2 === 0 ? [1, 2] : [2, 3],
    }))
    await admin.createTopics({ topics: [{ topic: shop.broker.topicPrefix + declared.name, replicaAssignment }] })
    await shop.deploy()
    await shop.bus.ensureTopics([{ ...declared, settings: { ...declared.settings, 'min.insync.replicas': '2' } }])
    const child = shop.startProcess('child')
    const load = startLoad(shop)
    await load.handled(10)
    const isWhole = (key: string) => partitionOf(key, declared.partitions) % 2 === 1
    expect(new Set(keys.map(isWhole))).toEqual(new Set([true, false]))
    await node(0).kill()
    const failed = load.rounds
    await eventually(
      'the other partitions to go on',
      async () => {
        const done = (await shop.effects()).filter(({ sequence }) => sequence > BigInt(failed + 60)) // a batch later and more
        return keys.filter(isWhole).every((key) => done.some((effect) => effect.key === key))
      },
      { ...patience, everyMs: 500 },
    )
    expect((await shop.outbox()).length).toBeGreaterThan(0)
    await node(0).restart()
    await load.finish()
    expect(child.isAlive).toBe(true)
  } finally {
    await admin.disconnect()
    await shop.close()
  }
}, 300_000)
