import { expect, test } from '@jest/globals'
import { parse } from 'yaml'
import { problemsOf } from './table.ts'

test('a table says of all its mistakes where they are and what belongs there', () => {
  const found = problemsOf(
    parse(`
- { name: Tasks, send: [OrderPlacd], form: protobuf, to: { rabbitmq: { url: 'amqp://user:secret@host', queue: q } } }
- { name: nothing }
- { name: two, send: [OrderShipped], to: { rabbitmq: { url: RABBITMQ_URL }, redis: { url: REDIS_URL } } }
- { name: kafka, send: [OrderShipped], to: { kafka: { url: KAFKA_URL } } }
- { name: both, send: [OrderShipped], receive: [PointsAwarded], to: { redis: { url: REDIS_URL } } }
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
`),
  )
  expect(found.join('\n')).not.toContain('secret')
  expect(found.map((line) => line.replace(/UserRegistered.*PointsAwarded/, 'EVENTS'))).toEqual([
    'bridge Tasks: name must be small letters, digits and hyphens',
    'bridge Tasks: send.0 must be one of EVENTS',
    'bridge Tasks: form must be one of cloudevents, cloudevents-binary, avro, celery',
    'bridge Tasks: to.rabbitmq has queue, which there is not: there are url, exchange, routingKey, queues',
    'bridge Tasks: to.rabbitmq.url must be the name of the variable that holds the URL, such as RABBITMQ_URL',
    'bridge nothing: says neither `send` nor `receive`',
    'bridge two: to has to name one broker',
    'bridge kafka: to names kafka; there are rabbitmq, redis, nats',
    'bridge both: says both `send` and `receive`: make two rows of it',
    'bridge numbers: send must be a list of some of EVENTS, each once',
    'bridge numbers: maxBytes must be a whole number of bytes, up to 2^30',
    'bridge numbers: attempts must be a whole number from 1 to 1,000',
    'bridge numbers: to.rabbitmq.queues.0.type must be quorum (default) or classic',
    'bridge numbers: to.rabbitmq.queues.0.maxLength must be a whole number of messages, from which on it is full and takes no more',
    'bridge in: receive.0 must be one of PointsAwarded',
    'bridge in: from.rabbitmq lacks queue',
    'bridge lost: lacks to',
    'bridge 9 of the table: is no row: it needs a name, and send and to, or receive and from',
    'bridge text: to must be one broker with what it needs, such as { rabbitmq: { url: RABBITMQ_URL } }',
    'bridge 11 of the table: lacks name',
    'bridge 11 of the table: to.redis has strem, which there is not: there are url, stream, groups, queue, priority, maxLength, replicas',
  ])
})
