import { expect, test } from '@jest/globals'
import { MalformedMessage } from '@shopstream/messaging/forwarding'
import { maxHeaderBytes } from '../targets/target.ts'
import { keptHeaders, readArrival } from './read.ts'

const row = { name: 'loyalty', receive: ['PointsAwarded' as const], keyPrefix: 'l-' }
/** A piece of what a message says; no error may say it. */
const secret = 'Lovelace'
const data = { userId: '0199a2b4-6c00-7000-8000-120559ff820e', points: 1, total: 1, reason: 'r' }
const event = {
  specversion: '1.0',
  id: 'a',
  source: '/loyalty',
  type: 'PointsAwarded',
  subject: `l-${data.userId}`,
  data: { ...data, awardedAt: '2026-01-31T10:00:00Z' },
}
const read = (body: Buffer, headers: Record<string, string> = {}) => readArrival({ body, headers }, row)
const json = (change: object) => Buffer.from(JSON.stringify({ ...event, ...change }))
const withData = (change: object) => json({ data: { ...event.data, ...change } })

test.each<[what: string, body: Buffer, error: string]>([
  ['text that is no JSON', Buffer.from(`Ada ${secret}`), 'its body is no JSON'],
  ['bytes that are no text', Buffer.from([0xff, 0]), 'its body is no JSON: no UTF-8'],
  ['another kind of JSON', Buffer.from(JSON.stringify(secret)), 'it is no CloudEvent: an object with id, '],
  ['an event without an id', json({ id: undefined }), 'its id is no text of 1 to 200 characters'],
  ['half a character in an id', json({ id: 'a\ud800b' }), 'its id is no text of 1 to 200 characters'],
  ['NUL in a key', json({ subject: 'l-\0' }), 'its subject is no text of 1 to 200 characters'],
  ['an event without a source', json({ source: '' }), 'its source is no text of 1 to 200 characters'],
  ['more than an event may have', withData({ reason: 'x'.repeat(600_000) }), 'and may have 524288'],
  ['another type', json({ type: secret }), 'its type is not one that bridge loyalty brings; it brings PointsAwarded'],
  [
    'a key of another source',
    json({ subject: secret }),
    "its subject does not begin with l-: the key is another source's",
  ],
  [
    'a key of something else',
    json({ subject: `l-${secret}` }),
    'its subject is not the userId of its data behind l-: PointsAwarded is keyed by that',
  ],
  ['another version', json({ specversion: secret }), 'its specversion is not 1.0'],
  [
    'an attribute that is no URI',
    json({ dataschema: `${secret} %%` }),
    'it is no CloudEvent: dataschema must match format "uri"',
  ],
  [
    'an attribute with a name',
    json({ [`${secret}_`]: 1 }),
    'it has an attribute whose name is not of a to z and 0 to 9',
  ],
  ['data that are none', json({ data: secret }), 'its data are no PointsAwarded: is no object'],
  ['no UUID', withData({ userId: secret }), 'its data are no PointsAwarded: userId: is no UUID'],
  ['a field too many', withData({ [secret]: secret }), 'PointsAwarded: has a field that the schema does not have'],
])('%s is refused, and no error says a piece of it', (_, body, error) => {
  const thrown = (() => {
    try {
      return read(body)
    } catch (problem) {
      return problem as Error
    }
  })()
  expect(thrown).toBeInstanceOf(MalformedMessage)
  expect((thrown as Error).message).toContain(error)
  for (let one: unknown = thrown; one instanceof Error; one = one.cause) expect(`${one.stack}`).not.toContain(secret)
})

test('an event is read in structured and in binary mode', () => {
  const found = {
    id: '/loyalty a',
    topic: 'shop.loyalty.v1',
    event: {
      type: 'PointsAwarded',
      key: `l-${data.userId}`,
      data: { ...data, awardedAt: new Date('2026-01-31T10:00:00Z') },
    },
  }
  expect(read(json({}))).toEqual(found)
  const { data: held, ...attributes } = event
  for (const prefix of ['ce-', 'ce_', 'cloudEvents:', 'cloudEvents_']) {
    const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [prefix + name, value]))
    expect(read(Buffer.from(JSON.stringify(held)), headers)).toEqual(found)
  }
})

test('attributes that are many bytes are not read, and what says whose they were is kept', () => {
  const short = { 'ce-id': 'a', 'cloudEvents:source': '/loyalty', ce_type: 'PointsAwarded' }
  const large = { ...short, 'ce-filler': 'x'.repeat(maxHeaderBytes) }
  expect(() => read(json({}), large)).toThrow('its attributes have more than 65536 bytes together')
  const kept = (headers: Record<string, string>, contentType = '') =>
    keptHeaders({ body: Buffer.alloc(0), headers, contentType })
  expect(kept(large)).toEqual(short)
  expect(kept({ ...large, 'ce-id': 'x'.repeat(201), id: 'b' })).not.toHaveProperty('ce-id')
  expect(kept(short, 'x'.repeat(maxHeaderBytes))).toEqual(short)
  expect(kept({ ...short, x: 'y' }, 'text/plain')).toEqual({ ...short, x: 'y', 'content-type': 'text/plain' })
})
