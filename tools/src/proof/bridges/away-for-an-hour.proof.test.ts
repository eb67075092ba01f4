import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from '@jest/globals'
import { createClient } from '@redis/client'
import { newEventId } from '@shopstream/events'
import { openKafkaBus } from '@shopstream/messaging'
import { outgoing } from '@shopstream/messaging/operations'
import { createSteppedClock, eventually, temporaryFolder, testLogger } from '@shopstream/testing'
import { exampleEvent } from '@shopstream/testing/contract'
import { companions } from '../../local/companions.ts'
import { openShop } from '../e2e/shop-under-test.ts'

const hourMs = 3_600_000
/** From which on BridgeBehind fires; see infra/prometheus. */
const alertSeconds = 300
const patience = { timeoutMs: 60_000, everyMs: 250 }
const table = `
- name: away
  send: [OrderShipped]
  to: { redis: { url: REDIS_URL, stream: away } }
`

let home: string | undefined
afterEach(() => {
  if (home) rmSync(home, { recursive: true, force: true })
})

const lacks = await companions.redis.whyNot(process.env)
const prove = lacks ? test.skip : test
prove(
  `a broker that is away for an hour is told as that, by the alert's gauge too, and gets everything${lacks ? ` (skipped: this machine ${lacks})` : ''}`,
  async () => {
    home = temporaryFolder('bridge-away')
    const file = join(home, 'bridges.yaml')
    writeFileSync(file, table)
    const clock = createSteppedClock(join(home, 'clock'))
    const stepped = { NODE_OPTIONS: clock.nodeArgs.join(' '), ...clock.env }
    const { shop } = await openShop({
      home,
      only: ['user', 'bridge'],
      with: ['redis'],
      env: { BRIDGES_FILE: file },
      around: (service, env) => (service === 'bridge' ? { ...env, ...stepped } : env),
    })
    const bus = await openKafkaBus({
      brokers: shop.kafka.brokers,
      topicPrefix: '',
      clientId: 'proof',
      logger: testLogger(),
    })
    const gauge = async (name: string) => {
      const text = await (await fetch(`${shop.serviceUrls.bridge}/metrics`)).text()
      return Number(new RegExp(`^shopstream_bridge_${name}\\{.*bridge="away".*\\} (\\S+)$`, 'm').exec(text)?.[1])
    }
    try {
      await eventually('the bridge', () => shop.services.bridge?.ready, patience)
      const redis = shop.companions.get('redis')
      await redis?.kill()
      const key = newEventId()
      const events = Array.from({ length: 50 }, (_, n) =>
        exampleEvent('OrderShipped', key, { orderId: key }, BigInt(n + 1)),
      )
      await bus.publish(events.map((event) => outgoing('order', event)))
      await eventually('the broker to be told as away', async () => (await gauge('away_seconds')) > 0, patience)
      await eventually('events that wait', async () => (await gauge('lag_messages')) > 0, patience)
      expect(await gauge('backlog_seconds')).toBeLessThan(alertSeconds)
      clock.step(hourMs)
      await eventually('an hour away', async () => (await gauge('away_seconds')) > hourMs / 1_000, patience)
      await eventually('the alert', async () => (await gauge('backlog_seconds')) > alertSeconds, patience)
      expect(shop.services.bridge?.ready).toBe(true)
      await redis?.restart()
      const client = createClient({ url: shop.companionUrls.REDIS_URL as string })
      client.on('error', () => {})
      await client.connect()
      const arrived = async () =>
        ((await client.xRange('away', '-', '+')) ?? []).map(({ message }) =>
          Number(JSON.parse(message.cloudevent ?? '').sequence),
        )
      await eventually('all of them', async () => new Set(await arrived()).size === events.length, patience)
      expect([...new Set(await arrived())]).toEqual(events.map((_, n) => n + 1))
      client.destroy()
      const isOver = async () => (await gauge('away_seconds')) === 0 && (await gauge('backlog_seconds')) === 0
      await eventually('nothing that is behind', isOver, patience)
    } finally {
      await bus.close()
      await shop.stop()
    }
  },
  300_000,
)
