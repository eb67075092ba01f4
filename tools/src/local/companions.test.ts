import { readFileSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { answers, parseIdentity, whyNoRedis } from '@shopstream/local-servers'
import { eventually, temporaryFolder, testBroker } from '@shopstream/testing'
import { bridgeSettings, companionUrls, readCompanions } from './companions.ts'
import { type ServiceName, serviceEnvironment, unusedPorts } from './services.ts'
import { defaultPorts, ownPorts, readStackSettings } from './settings.ts'
import { startShop } from './shop.ts'
import { runningShop } from './state-folder.ts'

test('--with takes names between commas, and says which there are', () => {
  expect(readCompanions('redis, rabbitmq,redis,')).toEqual(['rabbitmq', 'redis'])
  expect(() => readCompanions('redis,kafka')).toThrow('nothing is called kafka; there are rabbitmq, redis')
  expect(
    [unusedPorts({}, ['order']), unusedPorts({}, ['order'], ['redis'])].map((all) => all.has('REDIS_PORT')),
  ).toEqual([true, false])
})

test('the bridge is told where they are, and no other service', () => {
  const secrets = { postgresPassword: 'p', keyEncryptionSecret: 'k', staffPassword: 's', databasePasswords: {} }
  const known = { ...secrets, companionPasswords: { redis: 'secret' } }
  const urls = companionUrls(['redis'], defaultPorts, known)
  expect(urls).toEqual({ REDIS_URL: 'redis://shopstream:secret@127.0.0.1:6379' })
  const around = {
    ports: defaultPorts,
    brokers: ['127.0.0.1:9092'],
    databaseUrl: () => 'postgres://x@127.0.0.1/x',
    smtpUrl: 'smtp://127.0.0.1:1025',
    secrets: known,
    settings: readStackSettings({}).settings,
    companions: bridgeSettings(['redis'], urls, { BRIDGES_FILE: 'own.yaml' }),
  }
  expect(around.companions.BRIDGES_FILE).toBe('own.yaml') // also in env/bridge.env, by which `verify` finds the table
  const own = { BRIDGES_FILE: 'own.yaml', ERP_URL: 'amqp://x' }
  expect(bridgeSettings([], {}, { ...own, OTHER: 'x' })).toEqual(own)
  expect(bridgeSettings([], {}, {})).toEqual({})
  expect(serviceEnvironment('bridge' as ServiceName, around)).toMatchObject(urls)
  expect(serviceEnvironment('order', around)).not.toHaveProperty('REDIS_URL')
})

const lacks = whyNoRedis() ?? (process.env.TEST_KAFKA_BROKERS ? undefined : 'needs Kafka and Postgres of the run')
const unless = lacks ? test.skip : test
unless(
  `with a Redis, which is started again when it dies and ends with the shop${lacks ? ` (skipped: it ${lacks})` : ''}`,
  async () => {
    const home = temporaryFolder('companions')
    const { brokers, topicPrefix } = testBroker()
    const shop = await startShop({
      home,
      only: [],
      with: ['redis'],
      ports: await ownPorts(),
      env: {
        ...process.env,
        KAFKA_BROKERS: brokers.join(),
        KAFKA_TOPIC_PREFIX: topicPrefix,
        POSTGRES_URL: process.env.TEST_POSTGRES_URL,
      },
    })
    const { REDIS_URL = '' } = shop.companionUrls
    try {
      expect(runningShop(home)?.companionUrls).toEqual({ REDIS_URL })
      expect(await ping(REDIS_URL)).toBe('+OK\r\n+PONG\r\n')
      const pid = () => parseIdentity(readFileSync(join(home, 'redis/redis.pid'), 'utf8'))?.pid
      const first = pid()
      process.kill(first ?? 0, 'SIGKILL')
      await eventually('another Redis', async () => pid() !== first && (await ping(REDIS_URL)) === '+OK\r\n+PONG\r\n')
    } finally {
      await shop.stop()
      rmSync(home, { recursive: true, force: true })
    }
    expect(await answers(shop.ports.REDIS_PORT)).toBe(false)
  },
  90_000,
)

/** What it answers to a login and a PING. */
function ping(url: string): Promise<string> {
  const { username, password, port } = new URL(url)
  const socket = createConnection({ host: '127.0.0.1', port: Number(port) })
  socket.end(`AUTH ${username} ${password}\r\nPING\r\n`)
  let said = ''
  socket.setEncoding('utf8').on('data', (text) => (said += text))
  return new Promise((resolve, reject) => socket.on('error', reject).on('close', () => resolve(said)))
}
