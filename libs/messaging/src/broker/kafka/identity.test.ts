import { rmSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { topicOf } from '@shopstream/events'
import { createLogger } from '@shopstream/observability'
import {
  type Certificates,
  eventually,
  lacksForSecuredKafka,
  makeCertificates,
  type SecuredKafka,
  startSecuredKafka,
  temporaryFolder,
} from '@shopstream/testing'
import { silent } from '../../testing/shop.ts'
import { type Bus, NotAdmitted, type OutgoingMessage } from '../bus.ts'
import type { Acl } from './acls.ts'
import { checkIdentity, type KafkaIdentity } from './identity.ts'
import { type KafkaClient, kafkaClients, openAcls, openKafkaBus } from './open.ts'
import { watchBroker } from './pulse.ts'

/** A Kafka that knows its clients, and lets each do what it may; run with each client. */

const lacking = await lacksForSecuredKafka()
const [own, others, unseen] = [topicOf('OrderPlaced'), topicOf('UserRegistered'), topicOf('StockLevelChanged')]
const patience = { timeoutMs: 30_000, everyMs: 50 }

const dir = temporaryFolder('identities')
let secured: SecuredKafka
let foreign: Certificates

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
}, 60_000)

const trusting = () => ({ ca: secured.certificates.ca })
const guessed = (mechanism: 'plain' | 'scram-sha-256'): KafkaIdentity => ({
  tls: trusting(),
  sasl: { mechanism, username: 'order', password: 'guessed-1' },
})

/** Everything that it logs is kept. */
async function open(client: KafkaClient, identity: KafkaIdentity, brokers: readonly string[] = secured.brokers) {
  const lines: string[] = []
  const kept = new PassThrough().on('data', (chunk) => lines.push(...String(chunk).trim().split('\n')))
  const bus = await openKafkaBus({
    brokers,
    client,
    identity,
    topicPrefix: '',
    clientId: 'identities',
    logger: createLogger({ service: 'test', level: 'trace', format: 'json' }, kept),
  })
  undo.push(() => bus.close())
  return { bus, lines, logged: (level: string) => lines.filter((line) => JSON.parse(line).level === level) }
}

const message = (topic: string, key: string): OutgoingMessage => ({
  topic,
  partition: 0,
  key,
  value: Buffer.from(key),
  headers: {},
})

const right = (operation: string, resourceName: string, resourceType = 'TOPIC', principal = 'User:order'): Acl => ({
  principal,
  host: '*',
  resourceType,
  resourceName,
  patternType: 'LITERAL',
  operation,
  permissionType: 'ALLOW',
})

/** Returns the keys that a new group reads, as they come. */
function read(bus: Bus, group: string, topic: string) {
  const keys: (string | null)[] = []
  const consumer = bus.consume({
    group,
    topics: [topic],
    async handle(batch, partition) {
      keys.push(...batch.messages.map(({ key }) => key))
      partition.done(batch.next)
    },
  })
  undo.push(() => consumer.close())
  return { keys, consumer }
}

test('what a person has to see to is told once, however often it is tried, and again when it is another thing', async () => {
  const lines: string[] = []
  const kept = new PassThrough().on('data', (chunk) => lines.push(JSON.parse(String(chunk)).msg))
  const ending = new AbortController()
  let asked = 0
  const ask = async () => {
    asked += 1
    throw new NotAdmitted(asked < 3 ? 'a wrong password' : 'a wrong certificate')
  }
  const pulse = watchBroker(ask, createLogger({ service: 'test', level: 'info', format: 'json' }, kept), ending.signal)
  await eventually('four attempts', () => asked === 4, patience)
  ending.abort()
  expect(lines).toEqual(['a wrong password', 'a wrong certificate'].map((what) => `${what}; events wait in the outbox`))
  expect(() => pulse.check()).toThrow('a wrong certificate')
})

const ifHad = lacking ? describe.skip : describe
ifHad(`a Kafka with TLS, users and ACLs${lacking ? ` (skipped: ${lacking})` : ''}`, () => {
  beforeAll(async () => {
    foreign = await makeCertificates(dir, ['order'])
    secured = await startSecuredKafka(['order'])
    const admin = {
      brokers: secured.brokers,
      topicPrefix: '',
      clientId: 'admin',
      logger: silent,
      identity: secured.as('admin'),
    }
    const { bus } = await open('kafkajs', admin.identity)
    await bus.ensureTopics([own, others, unseen])
    const acls = await openAcls(admin)
    await acls.add([
      ...['WRITE', 'READ', 'DESCRIBE'].map((operation) => right(operation, own.name)),
      right('DESCRIBE', others.name),
      ...['mine-kafkajs', 'mine-platformatic'].flatMap((group) => [
        right('READ', group, 'GROUP'),
        right('WRITE', `${group}-relay`, 'TRANSACTIONAL_ID'),
        right('DESCRIBE', `${group}-relay`, 'TRANSACTIONAL_ID'),
      ]),
    ])
    await acls.close()
    const { bus: owner } = await open('kafkajs', secured.as('order'))
    const taken = async () => !(await owner.publish([message(own.name, 'first')]))[0]?.error
    await eventually('the ACLs to hold', taken, patience)
    for (const step of undo.splice(0)) await step()
  }, 120_000)

  afterAll(async () => {
    await secured?.stop()
    rmSync(dir, { recursive: true, force: true })
  }, 60_000)

  describe.each(kafkaClients)('by %s', (client) => {
    test.each(['plain', 'scram-sha-256', 'scram-sha-512'] as const)(
      'a user with a password, by %s',
      async (mechanism) => {
        const { bus, lines } = await open(client, secured.as('order', mechanism))
        const key = `${client} ${mechanism}`
        expect(await bus.publish([message(own.name, key)])).toEqual([{ message: expect.anything() }])
        const { keys } = read(bus, `mine-${client}`, own.name)
        await eventually('the message', () => keys.includes(key), patience)
        bus.check()
        expect(lines.join('\n')).not.toContain('order-secret-1')
      },
    )

    test('a user by a certificate alone', async () => {
      const { certificates, certificateBrokers } = secured
      const identity = { tls: { ca: certificates.ca, ...certificates.of('order') } }
      const { bus } = await open(client, identity, certificateBrokers)
      const publisher = bus.publisher(`mine-${client}-relay`)
      expect(await publisher.publish([message(own.name, 'signed')])).toEqual([{ message: expect.anything() }])
    })

    test.each<[string, () => Promise<{ identity: KafkaIdentity; brokers?: readonly string[]; says: RegExp }>]>([
      [
        'a wrong password',
        async () => ({
          identity: guessed('scram-sha-256'),
          says: /does not know this user by this password: see to KAFKA_SASL_USERNAME/,
        }),
      ],
      [
        'a wrong password as plain text',
        async () => ({
          identity: guessed('plain'),
          says: /does not know this user by this password: see to KAFKA_SASL_USERNAME/,
        }),
      ],
      [
        'an authority that is not trusted',
        async () => ({
          identity: { ...secured.as('order'), tls: {} },
          says: /signed by nobody who is trusted here: set KAFKA_TLS_CA/,
        }),
      ],
      [
        'the authority of others',
        async () => ({
          identity: { ...secured.as('order'), tls: { ca: foreign.ca } },
          says: /signed by nobody who is trusted here: set KAFKA_TLS_CA/,
        }),
      ],
      [
        'no certificate where one is wanted',
        async () => ({
          identity: { tls: trusting() },
          brokers: secured.certificateBrokers,
          says: /see to KAFKA_TLS_CERT/,
        }),
      ],
      [
        'a certificate of others',
        async () => ({
          identity: { tls: { ...trusting(), ...foreign.of('order') } },
          brokers: secured.certificateBrokers,
          says: /see to KAFKA_TLS_CERT/,
        }),
      ],
    ])('%s is told in words, and tried again', async (_, given) => {
      const { identity, brokers, says } = await given()
      const { bus, lines, logged } = await open(client, identity, brokers)
      const { consumer } = read(bus, `mine-${client}`, own.name)
      await eventually('the words', () => logged('error').length > 0, patience)
      expect(() => bus.check()).toThrow(says)
      await expect(bus.publish([message(own.name, 'refused')])).rejects.toThrow(says)
      const [line] = logged('error')
      expect(logged('error')).toHaveLength(1)
      expect(line).toMatch(says)
      expect(line).not.toMatch(/stack|guessed/)
      expect(logged('warn')).toEqual([])
      expect(lines.join('\n')).not.toMatch(/guessed-1|secret-1/)
      consumer.check() // there is nothing that a new consumer would mend
    })

    test.each<[string, () => KafkaIdentity]>([
      ['TLS', () => ({})],
      ['a user', () => ({ tls: trusting() })],
    ])(
      'a broker that wants %s says nothing to who comes without; the words say what it may be',
      async (_, identity) => {
        const { bus, logged } = await open(client, identity())
        await eventually('the words', () => logged('error').length > 0, patience)
        expect(() => bus.check()).toThrow(/see to KAFKA_TLS and KAFKA_SASL_MECHANISM/)
        expect(logged('error')).toHaveLength(1)
      },
    )

    test('a topic that it may not even see is refused by that name', async () => {
      const { bus, logged } = await open(client, secured.as('order'))
      const [delivery] = await bus.publish([message(unseen.name, 'foreign')])
      expect(delivery?.error?.message).toContain('TOPIC_AUTHORIZATION_FAILED')
      read(bus, `mine-${client}`, unseen.name)
      await eventually('the refusal', () => logged('warn').length > 0, patience)
      expect(logged('warn')[0]).toMatch(/TOPIC_AUTHORIZATION_FAILED|Topic authorization failed/)
    })

    test('what is not its own is refused, and what is goes on', async () => {
      const { bus, logged } = await open(client, secured.as('order'))
      const [allowed, refused] = await bus.publish([message(own.name, 'own'), message(others.name, 'foreign')])
      expect(allowed?.error).toBeUndefined()
      expect(String(refused?.error?.message)).toMatch(/TOPIC_AUTHORIZATION_FAILED|not authorized/i)
      const publishing = bus.publisher('foreign-relay').publish([message(own.name, 'x')])
      if (bus.fences) await expect(publishing).rejects.toThrow('TRANSACTIONAL_ID_AUTHORIZATION_FAILED')
      else await publishing // its publishers have no names
      const foreignTopic = read(bus, `mine-${client}`, others.name)
      const foreignGroup = read(bus, 'somebody', own.name)
      await eventually('both refused', () => logged('warn').length > 1, patience)
      expect([...foreignTopic.keys, ...foreignGroup.keys]).toEqual([])
      expect(logged('warn').join('\n')).toMatch(/TOPIC_AUTHORIZATION_FAILED|topic authorization/i)
      // KafkaJS finds no coordinator that would tell it why.
      expect(logged('warn').join('\n')).toMatch(/GROUP_AUTHORIZATION_FAILED|Failed to find group coordinator/)
    })
  })

  test('certificates and keys that cannot be used are refused at once', () => {
    const [order, admin] = [secured.certificates.of('order'), secured.certificates.of('admin')]
    const check = (tls: NonNullable<KafkaIdentity['tls']>) => () => checkIdentity({ tls })
    expect(check({ cert: order.cert, key: order.key })).not.toThrow()
    expect(check({ cert: order.cert, key: admin.key })).toThrow(/^KAFKA_TLS_KEY is not the key of KAFKA_TLS_CERT/)
    expect(check({ key: '-----BEGIN PRIVATE KEY-----\nMII' })).toThrow(/^KAFKA_TLS_KEY cannot be read as PEM/)
    expect(check({ ca: '-----BEGIN CERTIFICATE-----\nMII' })).toThrow(/^KAFKA_TLS_CA cannot be read as PEM/)
  })
})
