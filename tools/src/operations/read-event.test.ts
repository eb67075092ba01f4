import { expect, test } from '@jest/globals'
import type { IncomingMessage } from '@shopstream/messaging/operations'
import { toJson } from '../terminal/format.ts'
import { claimsOf, createReader } from './read-event.ts'
import type { Reach } from './shop-access.ts'
import type { EventStory } from './story.ts'
import { unpublishedVerdict, writerOf } from './verdict.ts'

const noDatabases = {} as Reach['databases'] // asked for schemas alone
const read = (headers: IncomingMessage['headers'], more: Partial<IncomingMessage> = {}) =>
  createReader(noDatabases)({
    topic: 'shop.order.v1',
    partition: 3,
    offset: 12n,
    key: 'k',
    value: Buffer.from('x'),
    headers,
    ...more,
  })

test('headers are told as they are: without a value, empty, bytes that are no text', async () => {
  const headers = { ce_type: null, ce_id: null, ce_source: null, e: '', b: Buffer.from([255, 0]), t: Buffer.from('é') }
  const event = await read(headers)
  expect(event).toMatchObject({ type: undefined, id: undefined, source: undefined, foreignSource: undefined })
  expect(event.headers).toEqual({ ce_type: null, ce_id: null, ce_source: null, e: '', b: 'hex:ff00', t: 'é' })
  expect(await read({ ce_type: '', ce_time: 'soon', ce_sequence: '-1' })).toMatchObject({
    type: '',
    time: undefined,
    sequence: undefined,
  })
})

test('what cannot be taken apart says why', async () => {
  const event = await read({}, { problem: 'the record cannot be taken apart: 5 headers' })
  expect(event).toMatchObject({ problem: 'the record cannot be taken apart: 5 headers', bytes: Buffer.from('x') })
})

test.each([
  ['/shopstream/order', 'order', 'order'],
  ['/shopstream/gateway', undefined, '/shopstream/gateway (no service of the shop)'],
  ['urn:acme:billing/order', undefined, 'urn:acme:billing/order (no service of the shop)'],
  ['x\u001b[2J', undefined, 'x\ufffd[2J (no service of the shop)'],
  ['', undefined, 'an empty name (no service of the shop)'],
  [null, undefined, 'nobody that it names'],
])('ce_source %j is service %j, told as %j', async (ce_source, source, words) => {
  const event = await read({ ce_source })
  expect([event.source, writerOf(event)]).toEqual([source, words])
})

test('a dead-letter copy is told as one, and waits in the outbox of the group that made it', async () => {
  const headers = {
    ce_type: 'OrderPlaced',
    ce_source: 'urn:acme/order',
    dlq_group: 'inventory',
    dlq_topic: 'shop.order.v1',
  }
  expect((await read(headers)).copyOf).toBeUndefined() // anybody can write such headers elsewhere
  const copy = await read({ ...headers, dlq_partition: '3', dlq_offset: '7' }, { topic: 'shop.inventory.dlq' })
  expect(copy.copyOf).toEqual({ group: 'inventory', place: 'shop.order.v1/3@7' })
  const since = new Date('2026-01-31T12:00:00Z')
  const inOutbox = { owner: 'inventory' as const, since, before: 0, refused: 'TOO_LARGE' }
  const verdict = unpublishedVerdict({ ...copy, offset: null, handledBy: [], inOutbox } as EventStory, new Map(), since)
  expect(verdict?.text).toContain('The dead-letter copy that inventory made of OrderPlaced #?')
  expect(verdict?.run.join()).toContain('(database inventory)')
  expect(JSON.stringify(verdict)).not.toMatch(/was decided|acme/)
})

test('of what came in by a bridge its attributes are shown, and the rest with --personal', async () => {
  const parked = { topic: 'inbound@erp', key: null }
  const body = {
    specversion: '1.0',
    id: 'a-1',
    type: 'PointsAwarded',
    subject: 'k',
    data: { name: 'Ada' },
    note: 'Ada',
  }
  const value = Buffer.from(JSON.stringify(body))
  const headers = { 'ce-id': 'a-1', 'content-type': 'application/json', 'x-user': 'Ada' }
  const event = await read(headers, { ...parked, value })
  expect(JSON.parse(event.text ?? '')).toEqual({ ...body, data: '•••', note: '•••' })
  expect(event).toMatchObject({ headers: { ...headers, 'x-user': '•••' }, problem: expect.stringContaining('bridge') })
  expect(toJson(event)).not.toContain('Ada')
  const copy = await read({ ...headers, dlq_topic: 'inbound@erp' }, { topic: 'shop.bridge.dlq', value })
  expect(toJson(copy)).not.toContain('Ada')
  const all = await createReader(noDatabases, true)({ ...event, ...parked, value, headers })
  expect([all.text, all.headers]).toEqual([String(value), headers])
  expect((await read({}, { ...parked, value: Buffer.from('Ada') })).text).toBe('••• (3 bytes; --personal shows them)')
})

test('of what came in by a bridge it is told which type it claims to be, and its key where that is an id', () => {
  const body = (subject: string) => ({ headers: {}, text: JSON.stringify({ type: 'PointsAwarded', subject }) })
  expect(claimsOf(body('erp-12'))).toEqual({ type: 'PointsAwarded', key: 'erp-12' })
  for (const personal of ['Ada Lovelace 1', 'ada1@example.org', 'Ada'])
    expect(claimsOf(body(personal))).toEqual({ type: 'PointsAwarded', key: null })
  const binary = { 'ce-type': 'UserErased', 'ce-subject': 'u-1' }
  expect(claimsOf({ headers: binary, text: '[1]' })).toEqual({ type: 'UserErased', key: 'u-1' })
  expect(claimsOf({ headers: {}, text: 'null' })).toEqual({ type: null, key: null })
})

test('an event of a user is masked under whatever name a bridge has parked it', async () => {
  const parked = await read({}, { topic: 'shop.user.v1@erp' })
  expect([parked.bytes, (await read({}, { topic: 'shop.order.v1@erp' })).bytes]).toEqual([undefined, Buffer.from('x')])
})
