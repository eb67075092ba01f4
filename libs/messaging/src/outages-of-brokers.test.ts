import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type LocalKafkaCluster, startKafkaCluster } from '@shopstream/testing'
import kafkajs from 'kafkajs'
import { startLoad } from './test-load.ts'
import { openTestShop } from './test-shop.ts'

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

test('topics have three replicas, two of which must have what is acknowledged, also after another deployment', async () => {
  const shop = await openTestShop({ brokers: cluster.brokers })
  const admin = new kafkajs.Kafka({ brokers: cluster.brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()
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
