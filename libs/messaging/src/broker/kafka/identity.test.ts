import { X509Certificate } from 'node:crypto'
import { rmSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { topicOf } from '@shopstream/events'
import { createLogger, createMetrics } from '@shopstream/observability'
import {
  type Certificates,
  eventually,
  hasOpenssl,
  lacksForSecuredKafka,
  makeCertificates,
  type SecuredKafka,
  startSecuredKafka,
  temporaryFolder,
} from '@shopstream/testing'
import { silent } from '../../testing/shop.ts'
import { type Bus, NotAdmitted, type OutgoingMessage } from '../bus.ts'
import type { Acl } from './acls.ts'
import { checkIdentity, inWords, type KafkaIdentity } from './identity.ts'
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

/** What is logged while a broker is asked, and each time answers thus: by an error, or well (undefined). */
async function watched(answers: readonly (Error | undefined)[]) {
  const lines: string[] = []
  const kept = new PassThrough().on('data', (chunk) => lines.push(JSON.parse(String(chunk)).msg))
  const ending = new AbortController()
  let asked = 0
  const ask = async () => {
    const answer = answers[asked]
    asked += 1
    if (answer) throw answer
  }
  const pulse = watchBroker(ask, createLogger({ service: 'test', level: 'info', format: 'json' }, kept), ending.signal)
  await eventually('all answers', () => asked === answers.length, patience)
  ending.abort()
  return { lines, pulse }
}

const told = (what: string) => `${what}; events wait in the outbox`
const [password, certificate] = [new NotAdmitted('a wrong password'), new NotAdmitted('a wrong certificate')]

test('what a person has to see to is told once, whatever comes between, until a broker answers', async () => {
  const { lines, pulse } = await watched([
    ...[password, new Error('timeout'), password, certificate, password],
    ...[undefined, password],
  ])
  expect(lines).toEqual([
    told('a wrong password'),
    told('a wrong certificate'),
    'Kafka answers',
    told('a wrong password'),
  ])
  expect(() => pulse.check()).not.toThrow() // it has answered lately
})

/** As Node and each client have it. */
const brokenHandshake = Object.assign(
  new Error('Client network socket disconnected before secure TLS connection was established'),
  { code: 'ECONNRESET' },
)
test.each([
  ['KafkaJS', new Error(`Connection error: ${brokenHandshake.message}`)],
  [
    '@platformatic/kafka',
    new Error('TLS handshake failed. Please verify the broker supports TLS.', { cause: brokenHandshake }),
  ],
])('a handshake that ends (%s) is a wrong setting only as long as no broker has answered', async (_, error) => {
  expect(inWords(error)).toBe(error)
  const first = await watched([error])
  expect(first.lines).toEqual([expect.stringMatching(/^Kafka ends the connection .*KAFKA_TLS.*KAFKA_BROKERS/)])
  const later = await watched([undefined, error])
  expect(later.lines).toEqual(['Kafka answers', told('Kafka does not answer')])
})

test('what speaks no TLS at all is a wrong setting', () => {
  const error = Object.assign(new Error('ssl'), { code: 'ERR_SSL_WRONG_VERSION_NUMBER' })
  expect(String(inWords(error))).toContain('Kafka does not speak TLS there: see to KAFKA_TLS')
})

test('a password goes to nobody in clear: plain without TLS is refused before any connection', async () => {
  const identity: KafkaIdentity = { sasl: { mechanism: 'plain', username: 'order', password: 'guessed-1' } }
  const options = { brokers: ['127.0.0.1:1'], topicPrefix: '', clientId: 'clear', logger: silent, identity }
  const refusal = /^KAFKA_SASL_MECHANISM=plain sends the password .*: set KAFKA_TLS=true, or take scram-sha-512$/
  for (const client of kafkaClients) await expect(openKafkaBus({ ...options, client })).rejects.toThrow(refusal)
  await expect(openAcls(options)).rejects.toThrow(refusal)
})

const ifOpenssl = (await hasOpenssl()) ? test : test.skip
ifOpenssl('the metric is when the first certificate ends, of its own and of all that sign', async () => {
  const [short, long] = [
    await makeCertificates(`${dir}/short`, ['order']),
    await makeCertificates(`${dir}/long`, ['order'], 3),
  ]
  const end = (pem: string) => Date.parse(new X509Certificate(pem).validTo) / 1_000
  const shown = async (tls?: KafkaIdentity['tls']) => {
    const metrics = createMetrics('test')
    const place = { brokers: ['127.0.0.1:1'], topicPrefix: '', clientId: 'expiry', logger: silent, metrics }
    const bus = await openKafkaBus({ ...place, ...(tls && { identity: { tls } }) })
    await bus.close()
    return (await metrics.metrics()).match(/^shopstream_certificate_expiry_timestamp_seconds\{.*$/gm) ?? []
  }
  const line = (pem: string) => [
    `shopstream_certificate_expiry_timestamp_seconds{use="kafka",service="test"} ${end(pem)}`,
  ]
  expect(end(long.ca)).toBeGreaterThan(end(short.ca) + 86_400)
  expect(await shown({ ca: long.ca })).toEqual(line(long.ca))
  expect(await shown({ ca: `${long.ca}${short.ca}`, ...long.of('order') })).toEqual(line(short.ca))
  expect(await shown({ ca: long.ca, ...short.of('order') })).toEqual(line(short.of('order').cert))
  expect(await shown({})).toEqual([])
  expect(await shown()).toEqual([])
  expect(() => checkIdentity({ tls: { ca: `${long.ca}-----BEGIN CERTIFICATE-----\nMII` } })).toThrow(
    /^KAFKA_TLS_CA cannot be read as PEM/,
  )
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
