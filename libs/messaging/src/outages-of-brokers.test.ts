import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { type LocalKafkaCluster, startKafkaCluster } from '@shopstream/testing'
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
