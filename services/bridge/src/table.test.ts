import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from '@jest/globals'
import { ConfigError } from '@shopstream/config'
import { temporaryFolder } from '@shopstream/local-servers'
import { readBridges } from './bridges.ts'

const dir = temporaryFolder('bridges')
afterAll(() => rmSync(dir, { recursive: true, force: true }))
const env = { RABBITMQ_URL: 'amqp://user:secret@127.0.0.1', REDIS_URL: 'redis://:secret@127.0.0.1' }

/** Everything that is said of a table in these files; events are not listed. */
function problemsOf(files: Record<string, string>, variables: NodeJS.ProcessEnv = env): string[] {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text)
  try {
    readBridges({ BRIDGES_FILE: Object.keys(files).map((name) => join(dir, name)) }, variables)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    expect(error.message).not.toContain('secret')
    const events = /UserRegistered.*PointsAwarded/
    return error.problems.map((line) => line.replaceAll(`${dir}/`, '').replace(events, 'EVENTS'))
  }
}

test('a table says of all its mistakes where they are and what belongs there', () => {
  const found = problemsOf({
    'a.yaml': `
- { name: Tasks, send: [OrderPlacd], form: protobuf, to: { rabbitmq: { url: 'amqp://user:secret@host', queue: q } } }
- { name: nothing, forn: avro }
- { name: two, send: [OrderShipped], to: { rabbitmq: { url: RABBITMQ_URL, queue: q }, redis: { url: REDIS_URL, strem: x } } }
- { name: kafka, send: [OrderShipped], to: { kafka: { url: KAFKA_URL } } }
- { name: both, send: [OrderShipd], receive: [PointsAwarded], from: { redis: { url: REDIS_URL } } }
- name: numbers
  send: [OrderShipped, OrderShipped]
  to: { rabbitmq: { url: RABBITMQ_URL, queues: [{ name: q, type: lazy, maxLength: 0 }] } }
  maxBytes: 1.5
  attempts: many
- { name: in, receive: [OrderPlaced], from: { rabbitmq: { url: RABBITMQ_URL } } }
- { name: lost, send: [OrderShipped] }
- only text
- { name: text, send: [OrderShipped], to: rabbitmq }
- { send: [OrderShipped], to: { redis: { url: REDIS_URL, strem: x } } }
- { name: 'redis://secret@host', send: [OrderShipped], to: { 'redis://secret@host': {} }, 'redis://secret': 1 }
- { name: astray, to: { redis: { url: REDIS_URL } } }
`,
  })
  expect(found).toEqual([
    'a.yaml: bridge Tasks: name must be small letters, digits and hyphens',
    'a.yaml: bridge Tasks: send.0 must be one of EVENTS',
    'a.yaml: bridge Tasks: form must be one of cloudevents, cloudevents-binary, avro, celery',
    'a.yaml: bridge Tasks: to.rabbitmq has queue, which there is not: there are url, exchange, routingKey, queues',
    'a.yaml: bridge Tasks: to.rabbitmq.url must be the name of the variable that holds the URL, such as RABBITMQ_URL',
    'a.yaml: bridge nothing: says neither `send` nor `receive`',
    'a.yaml: bridge nothing: has forn, which there is not: there are send, form, tasks, to, maxBytes, attempts, receive, source, keyPrefix, from, name',
    'a.yaml: bridge two: to has to name one broker',
    'a.yaml: bridge two: to.rabbitmq has queue, which there is not: there are url, exchange, routingKey, queues',
    'a.yaml: bridge two: to.redis has strem, which there is not: there are url, stream, groups, queue, priority, maxLength, replicas',
    'a.yaml: bridge kafka: to names kafka; there are rabbitmq, redis, nats',
    'a.yaml: bridge both: says both `send` and `receive`: make two rows of it',
    'a.yaml: bridge both: lacks to',
    'a.yaml: bridge both: send.0 must be one of EVENTS',
    'a.yaml: bridge both: from.redis lacks stream',
    'a.yaml: bridge numbers: send must be a list of some of EVENTS, each once',
    'a.yaml: bridge numbers: maxBytes must be a whole number of bytes, up to 2^30',
    'a.yaml: bridge numbers: attempts must be a whole number from 1 to 1,000',
    'a.yaml: bridge numbers: to.rabbitmq.queues.0.type must be quorum (default) or classic',
    'a.yaml: bridge numbers: to.rabbitmq.queues.0.maxLength must be a whole number of messages, from which on it is full and takes no more',
    'a.yaml: bridge in: receive.0 must be one of PointsAwarded',
    'a.yaml: bridge in: from.rabbitmq lacks queue',
    'a.yaml: bridge lost: lacks to',
    'a.yaml: row 9: is no row: it needs a name, and send and to, or receive and from',
    'a.yaml: bridge text: to must be one broker with what it needs, such as { rabbitmq: { url: RABBITMQ_URL } }',
    'a.yaml: row 11: lacks name',
    'a.yaml: row 11: to.redis has strem, which there is not: there are url, stream, groups, queue, priority, maxLength, replicas',
    'a.yaml: row 12: has a name, which there is not: there are name, send, form, tasks, to, maxBytes, attempts',
    'a.yaml: row 12: name must be small letters, digits and hyphens',
    'a.yaml: row 12: to names something else; there are rabbitmq, redis, nats',
    'a.yaml: bridge astray: lacks send',
  ])
})

test('what is wrong with one row or file hides nothing of the others', () => {
  const wrong = Array.from({ length: 12 }, () => 'Nothing').join(', ')
  const files = {
    'unread.yaml': '- { name: x\n- *secret',
    'text.yaml': 'no list',
    'alias.yaml': '- { name: *secret }',
    'empty.yaml': '# later',
    'many.yaml': `
- { name: many, send: [${wrong}], to: { redis: { url: REDIS_URL, maxLength: none, priority: 3 } }, form: celery }
- { name: away, send: [OrderShipped], to: { nats: { url: SHOP_NATS_URL, stream: s, subject: s } }, form: celery }
- { name: same, receive: [PointsAwarded], from: { redis: { url: REDIS_URL, stream: s, count: 0 } } }
- { name: loyalty, receive: [PointsAwarded], from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: in } } }, keyPrefix: a }`,
    'more.yaml': `
- { name: same, receive: [PointsAwarded], source: other, from: { redis: { url: OTHER_URL, stream: s } } }
- { name: third, receive: [PointsAwarded], source: other, keyPrefix: ab, from: { rabbitmq: { url: RABBITMQ_URL, queue: { name: in, bind: ['#'], maxLength: 5 } } } }
- { name: gone, send: [OrderShipped], to: { nats: { url: SHOP_NATS_URL, stream: s, subject: s } } }`,
  }
  expect(problemsOf({ ...files }, { ...env, OTHER_URL: env.REDIS_URL })).toEqual([
    expect.stringMatching(/^unread.yaml: is no YAML, line \d, column \d: [A-Z]/),
    'text.yaml: is no list of bridges: each begins with "- name:"',
    'alias.yaml: Unresolved alias (the anchor must be set before the alias)',
    'empty.yaml: has no rows: write one, or [] for no bridge',
    ...Array.from({ length: 12 }, (_, n) => `many.yaml: bridge many: send.${n} must be one of EVENTS`),
    'many.yaml: bridge many: send must be a list of some of EVENTS, each once',
    expect.stringMatching(/^many.yaml: bridge many: to.redis.maxLength must be a whole number/),
    'many.yaml: bridge many: to.redis has priority, which a stream has not',
    'many.yaml: bridge many: to.redis lacks queue, from which workers take tasks: such as queue: celery',
    'many.yaml: bridge away: to.nats cannot take form celery: Celery does not read from NATS',
    'many.yaml: bridge same: from.redis.count must be entries in hand at the most, from 1 to 10,000',
    'more.yaml: bridge third: from.rabbitmq has bind, which needs an exchange',
    'there are several bridges same, row 3 of many.yaml and row 1 of more.yaml: give each a name of its own',
    'many.yaml: bridge same and many.yaml: bridge loyalty both bring shop.loyalty.v1: give each a keyPrefix that no key of the other begins with, or both the same source',
    'many.yaml: bridge same and more.yaml: bridge same both bring shop.loyalty.v1: give each a keyPrefix that no key of the other begins with, or both the same source',
    'many.yaml: bridge same and more.yaml: bridge third both bring shop.loyalty.v1: give each a keyPrefix that no key of the other begins with, or both the same source',
    'many.yaml: bridge loyalty and more.yaml: bridge same both bring shop.loyalty.v1: give each a keyPrefix that no key of the other begins with, or both the same source',
    'many.yaml: bridge loyalty and more.yaml: bridge third both bring shop.loyalty.v1: give each a keyPrefix that no key of the other begins with, or both the same source',
    expect.stringMatching(
      /^SHOP_NATS_URL is missing: set it to a URL that .*; it is named by many.yaml: bridge away, more.yaml: bridge gone$/,
    ),
    'many.yaml: bridge same and more.yaml: bridge same read stream s as group shopstream: each would get a part, and no key keep its order; give each its own',
    'many.yaml: bridge loyalty and more.yaml: bridge third read queue in: each would get a part, and no key keep its order; give each its own',
    'many.yaml: bridge loyalty and more.yaml: bridge third declare queue in with different arguments (limits, groups, dead letters): give it the same in both',
  ])
})

test('a row alone may declare a queue that another declares in the same way', () => {
  const row = (name: string, queue: string) =>
    `- { name: ${name}, send: [OrderShipped], to: { rabbitmq: { url: RABBITMQ_URL, queues: [${queue}] } } }\n`
  expect(problemsOf({ 'a.yaml': row('a', '{ name: q }') + row('b', '{ name: q, type: quorum }') })).toEqual([])
  expect(problemsOf({ 'a.yaml': row('a', '{ name: q }') + row('b', '{ name: q, type: classic }') })).toHaveLength(1)
})

test('both variables, and a file that is not there, are told beside what is wrong in the rows', () => {
  const table = { BRIDGES: '- { name: x }', BRIDGES_FILE: [join(dir, 'none.yaml')] }
  expect(() => readBridges(table, env)).toThrow(
    expect.objectContaining({
      problems: [
        'BRIDGES and BRIDGES_FILE are both set: set one of them',
        `${dir}/none.yaml: cannot be read (ENOENT): BRIDGES_FILE has to name files that are there`,
        'BRIDGES: bridge x: says neither `send` nor `receive`',
      ],
    }),
  )
})

test('a file may begin with U+FEFF; what is odd in it is not quoted on the way', () => {
  const warned: unknown[] = []
  const emitWarning = process.emitWarning
  process.emitWarning = (...args: unknown[]) => void warned.push(...args)
  const row = '- { name: a, send: [OrderShipped], to: { redis: { url: REDIS_URL } } }\n'
  const found = problemsOf({ 'a.yaml': `\ufeff${row}`, 'b.yaml': '- { name: b, url: {{ secret }} }' })
  process.emitWarning = emitWarning
  expect(found.filter((line) => line.startsWith('a.yaml'))).toEqual([])
  expect(warned).toEqual([])
})

test.each(['redis://h/abc', 'redis://h/3/4', 'redis://h?db=3'])(
  'a database of Redis that is no number is told: %s',
  (url) => {
    expect(problemsOf({ 'a.yaml': '[]', 'b.yaml': out('b', 'redis', 'maxLength: 1') }, { REDIS_URL: url })).toEqual([
      'REDIS_URL names its database in another way than as a number behind the address, such as redis://127.0.0.1:6379/3; it is named by b.yaml: bridge b',
    ])
  },
)

test.each(['redis://:secret%@h', 'redis://h/%zz', 'redis://secret%1:x@h'])('a %% that is none is told: %s', (url) => {
  expect(problemsOf({ 'a.yaml': '[]', 'b.yaml': out('b', 'redis', 'maxLength: 1') }, { REDIS_URL: url })).toEqual([
    'REDIS_URL has a % that is none: write %25 for it; it is named by b.yaml: bridge b',
  ])
})

test.each([
  ['redis://:p@h', 'redis://:q@H:6379/0'],
  ['redis://h/', 'rediss://h'],
  ['redis://h', 'redis://h:6380', 'redis://h/1'],
])('readers of one stream are found however its server is written: %s', (...urls) => {
  const rows = urls.map(
    (_, n) =>
      `- { name: in-${n}, receive: [PointsAwarded], source: s, from: { redis: { url: URL_${n}, stream: points } } }\n`,
  )
  const variables = Object.fromEntries(urls.map((url, n) => [`URL_${n}`, url]))
  const same = urls.length === 2
  expect(problemsOf({ 'a.yaml': rows.join('') }, variables)).toHaveLength(same ? 1 : 0)
})

test('tasks are of events that are sent as tasks; a queue is not declared in two ways by one row', () => {
  const found = problemsOf({
    'a.yaml': `
- { name: a, send: [OrderShipped], tasks: { OrderShippd: x, 'redis://secret@host': y }, to: { redis: { url: REDIS_URL } } }
- { name: b, send: [OrderShipped], to: { rabbitmq: { url: RABBITMQ_URL, queues: [{ name: q, deadLetterQueue: q }] } } }
- { name: c, send: [OrderShipped], form: celery, tasks: { 'redis://secret@host': 1 }, to: { redis: { url: REDIS_URL, queue: q } } }
`,
    'b.yaml': '- { name: "\\Usecret" }',
  })
  expect(found).toEqual([
    'b.yaml: is no YAML, line 1, column 12: Invalid escape',
    'a.yaml: bridge a: tasks names OrderShippd, which is not in send',
    'a.yaml: bridge a: tasks names something, which is not in send',
    'a.yaml: bridge a: has tasks, which form: celery alone uses: add it',
    'a.yaml: bridge c: tasks.… must be names of tasks by event, each of 1 to 200 characters',
    'a.yaml: bridge c: tasks names something, which is not in send',
    'a.yaml: bridge b declares queue q in two ways: give each of the two a name of its own',
  ])
})

const out = (name: string, kind: string, options: string, send = 'OrderShipped') =>
  `- { name: ${name}, send: [${send}], to: { ${kind}: { url: ${kind.toUpperCase()}_URL, ${options} } } }\n`

test.each([
  ['redis', 'stream: "{nope}:{key}:{event}"', 'stream has {nope}', 'stream has {key}'],
  ['rabbitmq', 'routingKey: "{nope}.{topic}.{key}"', 'routingKey has {nope}', 'routingKey has {topic}'],
  ['nats', 'stream: s, subject: "a.{nope s}.{event}"', 'subject must be', 'subject has something in braces'],
  ['nats', 'stream: s, subject: "a.>"', 'subject without * or >'],
  ['nats', 'stream: s, subject: "a.*.{event}"', 'subject without * or >'],
  ['nats', 'stream: s, subject: "a.b.{event}.{aggregate}"'],
  ['redis', 'stream: "{aggregate}:{event}:{topic}"'],
  ['rabbitmq', 'routingKey: "{aggregate}.{event}.{key}"'],
  ['rabbitmq', "exchange: '', queues: [{ name: q }], routingKey: r", "has exchange: '', by which a message goes"],
  ['rabbitmq', "exchange: '', queues: [{ name: q }]", "has exchange: '', by which a message goes"],
  ['rabbitmq', "exchange: '', queues: [{ name: q }], routingKey: q"],
  ['rabbitmq', "exchange: '', queues: [{ name: OrderShipped }], routingKey: '{event}'"],
  ['rabbitmq', "exchange: '', queues: [{ name: q }], routingKey: '{key}'"],
  ['rabbitmq', 'queues: [{ name: q, type: classic, deliveryLimit: 3 }]', 'has deliveryLimit of a classic queue'],
  ['rabbitmq', 'queues: [{ name: q, deliveryLimit: 3 }, { name: r, type: classic }]'],
])('what cannot arrive is told at the start: %s %s', (kind, options, ...told) => {
  const found = problemsOf({ 'a.yaml': out('a', kind, options) }, { ...env, NATS_URL: 'nats://127.0.0.1' })
  expect(found).toEqual(told.map((text) => expect.stringContaining(text)))
})

const into = (name: string, kind: string, options: string) =>
  `- { name: ${name}, receive: [PointsAwarded], from: { ${kind}: { url: ${kind.toUpperCase()}_URL, ${options} } } }\n`

test.each([
  ['redis', 'stream: "shop:{aggregate}"', 'stream: "shop:order"', 'stream shop:order'],
  ['redis', 'stream: "shop:{aggregate}"', 'stream: "shop:inbound"'],
  ['nats', 'stream: s, subject: a', 'stream: s, subject: b', 'stream s'],
  ['nats', 'stream: s, subject: a', 'stream: t, subject: b'],
  ['rabbitmq', 'queues: [{ name: q }]', 'queue: { name: q }', 'queue q'],
  ['rabbitmq', "exchange: '', routingKey: q", 'queue: { name: q }', 'queue q'],
  ['rabbitmq', "routingKey: 'x'", 'queue: { name: q }, exchange: shop.a', 'exchange shop.a'],
  ['rabbitmq', 'exchange: e', 'queue: { name: q, bind: [loyalty.#] }, exchange: e'],
])('no row sends into what another receives from: %s %s, %s', (kind, to, from, ...places) => {
  const variables = { ...env, NATS_URL: 'nats://127.0.0.1' }
  expect(problemsOf({ 'a.yaml': out('a', kind, to) + into('b', kind, from) }, variables)).toEqual(
    places.map(
      (place) =>
        `a.yaml: bridge a sends into ${place}, and a.yaml: bridge b receives from it: what goes out would come in; give each its own`,
    ),
  )
})

test.each([
  ['', 'maxLength: 100000, groups: []', 0],
  ['groups: [a, b]', 'groups: [b, a]', 0],
  ['groups: [a]', 'groups: [b]', 1],
  ['maxLength: 5', '', 1],
  ['maxLength: 5', 'stream: "shop:{event}"', 0],
])('rows send into one stream of Redis in one way: %s and %s', (one, other, told) => {
  expect(problemsOf({ 'a.yaml': out('a', 'redis', one) + out('b', 'redis', other, 'OrderPlaced') })).toEqual(
    Array(told).fill(
      'a.yaml: bridge a and a.yaml: bridge b declare stream shop:shop.order.v1 with different arguments (limits, groups, dead letters): give it the same in both',
    ),
  )
})
