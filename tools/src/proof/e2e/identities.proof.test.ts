/** The whole shop at a Kafka with TLS, where each service has a user of its own and may do what acls.json says. */
import { execFile } from 'node:child_process'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { openKafkaBus } from '@shopstream/messaging'
import { type Acl, kafkaClients, openAcls } from '@shopstream/messaging/operations'
import {
  eventually,
  lacksForSecuredKafka,
  repository,
  type SecuredKafka,
  startSecuredKafka,
  testLogger,
} from '@shopstream/testing'
import { call, order, register, staffToken, stock } from '../../local/client.ts'
import { owners } from '../../operations/services.ts'
import { mailsTo, openShop } from './shop-under-test.ts'

const lacking = await lacksForSecuredKafka()
const minutes = 60_000
const patience = { timeoutMs: 30_000 }
let secured: SecuredKafka

/** The settings by which a user comes in. */
function settingsFor(user: string): Record<string, string> {
  const { mechanism, username, password } = secured.as(user).sasl
  return {
    KAFKA_BROKERS: secured.brokers.join(),
    KAFKA_TLS: 'true',
    KAFKA_TLS_CA: secured.certificates.ca,
    KAFKA_SASL_MECHANISM: mechanism,
    KAFKA_SASL_USERNAME: username,
    KAFKA_SASL_PASSWORD: password,
  }
}

/** `npm run shop -- …` by a user of Kafka's. */
function run(user: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  const options = { cwd: repository, env: { ...process.env, ...settingsFor(user), ...env } }
  return new Promise<{ stdout: string; stderr: string; status: unknown }>((resolve) => {
    execFile(process.execPath, ['tools/src/commands/shop.ts', ...args], options, (error, stdout, stderr) =>
      resolve({ stdout, stderr, status: error ? error.code : 0 }),
    )
  })
}

/** Throws with all that it said when it ends with another code than 0. */
async function runWell(...given: Parameters<typeof run>) {
  const { stdout, stderr, status } = await run(...given)
  if (status !== 0) throw new Error(`${given[1].join(' ')} ended with ${status}:\n${stdout}${stderr}`)
  return stdout
}

const place = (user: string, topicPrefix = '') => ({
  brokers: secured.brokers,
  topicPrefix,
  identity: secured.as(user),
  clientId: 'test',
  logger: testLogger(),
})

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
}, minutes)

const ifHad = lacking ? describe.skip : describe
ifHad(`a Kafka with users and ACLs${lacking ? ` (skipped: ${lacking})` : ''}`, () => {
  beforeAll(async () => {
    secured = await startSecuredKafka(['deployment', 'operator', ...owners])
  }, 2 * minutes)
  afterAll(async () => secured?.stop(), minutes)

  test(
    'deploy acls adds what is missing, tells what is besides, takes it with --prune, and leaves to others what they have',
    async () => {
      const acls = await openAcls(place('admin'))
      undo.push(() => acls.close())
      const besides: Acl = {
        principal: 'User:order',
        host: '*',
        resourceType: 'TOPIC',
        resourceName: 'shop.user.v1',
        patternType: 'PREFIXED',
        operation: 'WRITE',
        permissionType: 'ALLOW',
      }
      const other = { ...besides, principal: 'User:analytics', patternType: 'LITERAL', operation: 'READ' }
      await acls.add([besides, other])

      const first = await runWell('admin', ['deploy', 'acls'])
      expect(first).toContain('added: User:order ALLOW TOPIC shop.order.v1: WRITE, DESCRIBE\n')
      expect(first).toContain('--prune removes it): User:order ALLOW PREFIXED TOPIC shop.user.v1: WRITE\n')
      expect(first).toContain('of others, and left: User:analytics ALLOW TOPIC shop.user.v1: READ\n')
      const keptTill = async (count: number) =>
        (await acls.list()).filter(({ principal }) => principal === 'User:order').length === count
      const ofOrder = (await acls.list()).filter(({ principal }) => principal === 'User:order').length

      const pruned = await runWell('admin', ['deploy', 'acls', '--prune'])
      expect(pruned).not.toContain('added')
      expect(pruned).toContain('removed: User:order ALLOW PREFIXED TOPIC shop.user.v1: WRITE\n')
      await eventually('what is besides to be gone', () => keptTill(ofOrder - 1), patience)
      expect(await acls.list()).toContainEqual(other)
      expect(await runWell('admin', ['deploy', 'acls', '--prune'])).not.toMatch(/added|removed/)

      const refused = await run('order', ['deploy', 'acls'])
      expect(refused).toMatchObject({ status: 1, stdout: '' })
      expect(refused.stderr).toMatch(/acls cannot be put in place: .*authorization/i)
      const stranger = await run('admin', ['deploy', 'acls'], { KAFKA_SASL_PASSWORD: 'guessed-1' })
      expect(stranger).toMatchObject({ status: 1, stdout: '' })
      expect(stranger.stderr).toMatch(/^acls cannot be put in place: .*see to KAFKA_SASL_USERNAME, [^\n]*\n$/)
    },
    2 * minutes,
  )

  test.each(kafkaClients)(
    'the whole story, each service by its own user, by %s',
    async (client) => {
      const prefix = `${client}.`
      const common = { KAFKA_CLIENT: client, KAFKA_TOPIC_PREFIX: prefix }
      await runWell('admin', ['deploy', 'acls'], common)
      const opened = await openShop({
        env: { ...settingsFor('deployment'), ...common },
        around: (service, env) => ({ ...env, ...(service !== 'gateway' && settingsFor(service)) }),
      })
      undo.push(async () => {
        await opened.shop.stop()
        opened.forget()
      })
      const { shop } = opened
      const staff = await staffToken(shop)
      const customer = await register(shop)
      const sku = await stock(shop, staff, 5)
      const placed = await order(shop, customer.token, sku, { prefer: 'wait=20' })
      expect(placed).toMatchObject({ status: 201, body: { status: 'confirmed' } })
      const shipment = { token: staff, body: { carrier: 'Post', trackingNumber: 'T-1' } }
      expect(await call(shop, 'POST', `/v1/orders/${placed.body.id}/shipment`, shipment)).toMatchObject({ status: 201 })
      await eventually(
        'welcome, confirmation, shipping',
        () => mailsTo(shop.mail.mails(), customer).length === 3,
        patience,
      )

      const home = { ...common, SHOPSTREAM_HOME: opened.home }
      for (const args of [
        ['status'],
        ['lag'],
        ['explain', placed.body.id],
        ['verify'],
        ['tail', 'shop.order.v1', '--from', '1h', '--to-end'],
      ])
        await runWell('operator', args, home)
      for (const topic of ['shop.stock.v1', 'shop.order.v1'])
        await runWell('operator', ['grow', topic, '--partitions', '8'], home)
      await shop.services.notification?.stop(10_000)
      await runWell('operator', ['rewind', 'notification', '--to', '1h'], home)
      expect(opened.lines.filter((line) => /authoriz|AUTHORIZ|KAFKA_/.test(line))).toEqual([])

      const bus = await openKafkaBus({ ...place('order', prefix), client })
      undo.push(() => bus.close())
      const message = { partition: 0, key: 'k', value: Buffer.from('{}'), headers: {} }
      const [foreign] = await bus.publish([{ ...message, topic: 'shop.user.v1' }])
      expect(foreign?.error?.message).toContain('TOPIC_AUTHORIZATION_FAILED')
    },
    4 * minutes,
  )
})
