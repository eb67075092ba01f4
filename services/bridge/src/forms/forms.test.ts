import { expect, test } from '@jest/globals'
import { newEventId, topics } from '@shopstream/events'
import { outgoing, readMessage } from '@shopstream/messaging/operations'
import { exampleEvent } from '@shopstream/testing/contract'
import { CloudEvent, HTTP } from 'cloudevents'
import { forwards } from '../forwards.ts'
import { toSendable } from './index.ts'

function forwarded(type: (typeof forwards)[number]) {
  const message = { ...outgoing('test', exampleEvent(type, newEventId(), {}, 7n)), offset: 0n }
  return { event: readMessage(message), message }
}

const row = { name: 'test' }

test.each([...forwards])('%s is a valid CloudEvent, structured and binary', (type) => {
  const one = forwarded(type)
  const structured = toSendable(one, row)
  const read = HTTP.toEvent({
    headers: { 'content-type': structured.contentType },
    body: structured.body.toString(),
  }) as CloudEvent
  expect(read.validate()).toBe(true)
  expect(read).toMatchObject({
    id: one.event.id,
    type,
    subject: one.event.key,
    sequence: '7',
    time: one.event.time.toISOString(),
  })
  const binary = toSendable(one, { ...row, form: 'cloudevents-binary' })
  const headers = Object.fromEntries(
    Object.entries(binary.attributes ?? {}).map(([name, value]) => [`ce-${name}`, value]),
  )
  const fromBinary = HTTP.toEvent({
    headers: { ...headers, 'content-type': binary.contentType },
    body: binary.body.toString(),
  }) as CloudEvent
  expect(fromBinary.toJSON()).toEqual(read.toJSON())
  expect(new CloudEvent(fromBinary.toJSON() as never).validate()).toBe(true)
})

test('avro is the bytes of Kafka, with the same attributes', () => {
  const one = forwarded('OrderShipped')
  const { body, contentType, attributes } = toSendable(one, { ...row, form: 'avro' })
  expect([contentType, body]).toEqual(['application/avro', one.message.value])
  expect(attributes).toEqual(toSendable(one, { ...row, form: 'cloudevents-binary' }).attributes)
})

test('a task is protocol 2 of Celery: named by its row, with the event as its argument and nothing of it in what logs show', () => {
  const one = forwarded('OrderShipped')
  const usual = toSendable(one, { ...row, form: 'celery' })
  expect(usual.task).toMatchObject({
    task: 'shopstream.OrderShipped',
    id: one.event.id,
    root_id: one.event.id,
    lang: 'py',
  })
  const [[argument], kwargs, embed] = JSON.parse(usual.body.toString())
  expect(new CloudEvent(argument).validate()).toBe(true)
  expect([kwargs, embed]).toEqual([{}, { callbacks: null, errbacks: null, chain: null, chord: null }])
  expect(usual.task?.argsrepr).toBe(`(<OrderShipped of ${one.event.key}>,)`)
  const named = toSendable(one, { ...row, form: 'celery', tasks: { OrderShipped: 'loyalty.shipped' } })
  expect(named.task).toMatchObject({ task: 'loyalty.shipped' })
})

test('no event of the inside goes out', () => {
  const inside = topics.filter(({ name }) => /signing-key|schema/.test(name)).flatMap(({ events }) => events)
  expect(forwards.filter((event) => inside.includes(event))).toEqual([])
  expect(inside.length).toBeGreaterThan(0)
})
