import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { newEventId } from '@shopstream/events'
import { eventually, freePort, startRedis, temporaryFolder, whyNoRedis } from '@shopstream/local-servers'
import { createWorld, type World } from '@shopstream/testing'
import { exampleEvent } from '@shopstream/testing/contract'
import { buildBridge } from '../../app.ts'
import { clientOf } from './testing.ts'

const lacks = whyNoRedis()
const withRedis = lacks ? test.skip : test
const named = (name: string) => (lacks ? `${name} (skipped: it ${lacks})` : name)

let dir: string
let redis: Awaited<ReturnType<typeof startRedis>>
let client: Awaited<ReturnType<typeof clientOf>>
let world: World
let service: Awaited<ReturnType<typeof buildBridge>>

const table = `
- name: shipped
  send: [OrderShipped]
  to: { redis: { url: REDIS_URL, stream: 'shop:{event}', groups: [readers] } }
- name: loyalty
  receive: [PointsAwarded]
  from: { redis: { url: REDIS_URL, stream: points } }
`

beforeAll(async () => {
  if (lacks) return
  dir = temporaryFolder('bridge-redis')
  redis = await startRedis({ dir: join(dir, 'redis'), port: await freePort(), password: 'a-secret-word' })
  client = await clientOf(redis.url)
  process.env.REDIS_URL = redis.url
  world = await createWorld('bridge')
  const file = join(dir, 'bridges.yaml')
  writeFileSync(file, table)
  service = await buildBridge({ ...world.settings, BRIDGES_FILE: [file] }, world.logger)
  await service.start()
}, 120_000)
afterAll(async () => {
  await service?.stop()
  client?.destroy()
  await redis?.stop()
  await world?.close()
  if (dir) rmSync(dir, { recursive: true, force: true })
})

withRedis(named('events of a topic stand in a stream, in the order of each key'), async () => {
  const keys = [newEventId(), newEventId(), newEventId()]
  const numbers = Array.from({ length: 30 }, (_, n) => n + 1)
  await world.publish(
    ...numbers.flatMap((n) => keys.map((key) => exampleEvent('OrderShipped', key, { orderId: key }, BigInt(n)))),
  )
  await eventually('the events', async () => (await client.xLen('shop:OrderShipped')) >= 90)
  const entries = (await client.xRange('shop:OrderShipped', '-', '+')) ?? []
  const events = entries.map(({ message }) => ({ ...JSON.parse(message.cloudevent ?? ''), field: message.id }))
  for (const { id, field } of events) expect(field).toBe(id)
  const sequencesOf = (key: string) => events.filter(({ subject }) => subject === key).map(({ sequence }) => +sequence)
  expect(keys.map(sequencesOf)).toEqual(keys.map(() => numbers))
})

withRedis(named('what comes again, as its XACK was lost in a crash, is an event once'), async () => {
  const userId = newEventId()
  const add = (id: string, points: number) => {
    const data = { userId, points, total: points, reason: 'a test', awardedAt: '2026-01-15T13:52:47.951Z' }
    const event = { specversion: '1.0', id, source: '/loyalty', type: 'PointsAwarded', subject: userId, data }
    return client.xAdd('points', '*', { cloudevent: JSON.stringify(event) })
  }
  const got = () => world.events('PointsAwarded').filter(({ key }) => key === userId)
  for (let n = 1; n <= 20; n += 1) await add(`award-${n}`, n)
  await eventually('the events', () => got().length === 20)
  await eventually('their XACK', async () => (await client.xPending('points', 'shopstream')).pending === 0)
  await client.sendCommand(['XGROUP', 'SETID', 'points', 'shopstream', '0'])
  await add('award-21', 21)
  await eventually('the last', () => got().some(({ data }) => data.points === 21))
  expect(got().map(({ data, sequence }) => [data.points, sequence])).toEqual(
    Array.from({ length: 21 }, (_, n) => [n + 1, BigInt(n + 1)]),
  )
})
