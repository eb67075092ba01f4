import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { type EventName, topics } from '@shopstream/events'
import { type CheckOptions, checkSchemas } from '../schemas/check.ts'
import { workspace } from '../schemas/files.ts'
import { Refused } from '../schemas/findings.ts'
import { layOut } from '../schemas/layout.ts'
import { lockFile } from '../schemas/lock.ts'
import { type Copy, copySchemas, type Json } from '../schemas/testing.ts'
import { topicsLockFile } from '../schemas/topics-lock.ts'
import { readWiring, type ServiceWiring } from '../schemas/wiring.ts'
import { generate, typesFile } from './generate.ts'
import { register } from './register.ts'

const orderPlaced = 'schemas/order/OrderPlaced.avsc'
const derived = [typesFile, 'schemas/order/OrderPlaced.schema.json', 'schemas/asyncapi.yaml', 'docs/events.md']

let wiring: ServiceWiring[]
beforeAll(async () => {
  wiring = await readWiring(workspace)
})

let copy: Copy
let options: CheckOptions
beforeEach(() => {
  copy = copySchemas(layOut)
  options = { root: copy.root, wiring, topics }
})
afterEach(() => copy.drop())

const withNote = () =>
  copy.edit(orderPlaced, (schema) =>
    schema.fields.unshift({ name: 'note', doc: 'A note.', type: ['null', 'string'], default: null }),
  )

/** `options` with an event more in a topic. */
const withEvent = (event: string, topic: string): CheckOptions => ({
  ...options,
  topics: topics.map((one) => (one.name === topic ? { ...one, events: [...one.events, event as EventName] } : one)),
})

test('what is committed is in order and fresh', async () => {
  expect(await checkSchemas({ root: workspace })).toEqual([])
  expect(await generate({ root: workspace, check: true })).toEqual([])
})

describe('a changed schema', () => {
  test('is refused by generate until it is registered, and no old row changes by a byte', async () => {
    const before = copy.read(lockFile)
    const rows = copy.lock()
    withNote()
    await expect(generate(options)).rejects.toThrow('version 2 is not in the lock: run `npm run schemas -- register`')
    const { versions, written } = await register(options)
    const id = (rows.at(-1)?.id ?? 0) + 1
    const golden = 'schemas/golden/shopstream.order.OrderPlaced.v2.json'
    expect(versions).toEqual([{ id, subject: 'shopstream.order.OrderPlaced', version: 2 }])
    expect(written).toEqual([golden, lockFile, ...derived])
    expect(copy.read(lockFile).startsWith(before.replace(/\n\]\n$/, ''))).toBe(true)
    expect(copy.read(typesFile)).toContain('note: string | null')
    expect(JSON.parse(copy.read(golden))).toMatchObject({ schemaId: id, version: 2 })
    expect(await generate({ ...options, check: true })).toEqual([])
    expect(await register(options)).toEqual({ versions: [], written: [] })
  })

  test('that goes back to what it was is a third version, and golden bytes of the others stay', async () => {
    const original = copy.read(orderPlaced)
    const first = copy.read('schemas/golden/shopstream.order.OrderPlaced.v1.json')
    withNote()
    await register(options)
    copy.write(orderPlaced, original)
    await register(options)
    const versions = copy.lock().filter(({ subject }) => subject.endsWith('.OrderPlaced'))
    expect(versions.map(({ version }) => version)).toEqual([1, 2, 3])
    expect(versions[2]?.fingerprint).toBe(versions[0]?.fingerprint)
    expect(versions[2]?.id).toBe((versions[1]?.id ?? 0) + 1)
    expect(copy.read('schemas/golden/shopstream.order.OrderPlaced.v1.json')).toBe(first)
  })

  test('only in its docs is no new version', async () => {
    copy.replace(orderPlaced, 'An order was accepted', 'An order came in')
    expect(await generate({ ...options, check: true })).toEqual(derived)
    expect(await register(options)).toEqual({ versions: [], written: derived })
  })
})

test('a new event gets the next id, also when it sorts first, and its topic is locked', async () => {
  const last = copy.lock().at(-1)?.id ?? 0
  const fields = [{ name: 'at', doc: 'When.', type: { type: 'long', logicalType: 'timestamp-millis' } }]
  const schema = {
    type: 'record',
    name: 'AlertRaised',
    namespace: 'shopstream.alert_rule',
    doc: 'Ring.\nNow. */',
    fields,
  }
  copy.write('schemas/alert-rule/AlertRaised.avsc', JSON.stringify(schema))
  const [template] = topics
  const alerts = { ...(template as Json), name: 'shop.alert-rule.v1', key: 'rule id', events: ['AlertRaised'] }
  await register({ ...options, topics: [...topics, alerts] })
  expect(copy.lock().at(-1)).toMatchObject({ id: last + 1, subject: 'shopstream.alert_rule.AlertRaised', version: 1 })
  expect(JSON.parse(copy.read(topicsLockFile))['shop.alert-rule.v1']).toEqual({
    key: 'rule id',
    partitions: 6,
    cleanup: 'compact',
    events: ['AlertRaised'],
  })
  expect(copy.read(typesFile)).toContain(
    '/**\n * Ring.\n * Now. *\\/ Avro: `shopstream.alert_rule.AlertRaised`.\n */\nexport interface AlertRaised {\n  /** When. */\n  at: Date\n}',
  )
})

test('all is made again when everything is gone, with SchemaRegistered at its pinned id', async () => {
  const newest = new Map(copy.lock().map(({ subject, schema }) => [subject, schema]))
  for (const file of [lockFile, topicsLockFile, ...derived]) copy.remove(file)
  rmSync(join(copy.root, 'schemas/golden'), { recursive: true })
  await register(options)
  expect(new Map(copy.lock().map(({ subject, schema }) => [subject, schema]))).toEqual(newest)
  expect(copy.lock().every(({ version }) => version === 1)).toBe(true)
  expect(copy.lock()[0]).toMatchObject({ id: 100_001, subject: 'shopstream.schema.SchemaRegistered', version: 1 })
  expect(await generate({ ...options, check: true })).toEqual([])
})

test('a JSON Schema whose event is gone is stale, and removed', async () => {
  const left = 'schemas/order/OrderLost.schema.json'
  copy.write(left, '{}')
  expect(await generate({ ...options, check: true })).toEqual([left])
  expect(copy.read(left)).toBe('{}')
  expect(await generate(options)).toEqual([left])
  expect(() => copy.read(left)).toThrow('ENOENT')
})

test('enums, maps and nullable values as types', async () => {
  const color = { type: 'enum', name: 'Color', doc: 'A color.', symbols: ['red', 'green'] }
  const fields = [
    { name: 'color', doc: 'c', type: color },
    { name: 'colors', doc: 'c', type: { type: 'array', items: ['null', 'Color'] } },
    { name: 'weights', doc: 'w', type: { type: 'map', values: 'long' } },
    { name: 'raw', doc: 'r', type: ['null', 'bytes'] },
  ]
  copy.write(
    'schemas/stock/StockPainted.avsc',
    JSON.stringify({ type: 'record', name: 'StockPainted', namespace: 'shopstream.stock', doc: 'p', fields }),
  )
  await register(withEvent('StockPainted', 'shop.stock.v1'))
  const types = copy.read(typesFile)
  expect(types).toContain("export type Color = 'red' | 'green'")
  for (const line of [
    'color: Color',
    'colors: (Color | null)[]',
    'weights: Record<string, bigint>',
    'raw: Buffer | null',
  ]) {
    expect(types).toContain(`  ${line}\n`)
  }
})

test('golden bytes that an undone register has left are not taken for those of another version', async () => {
  const before = copy.read(lockFile)
  withNote()
  await register(options)
  copy.write(lockFile, before)
  copy.edit(orderPlaced, (schema) => {
    schema.fields[0].name = 'remark'
  })
  const refusal = await register(options).catch((error: unknown) => error)
  expect(refusal).toBeInstanceOf(Refused)
  expect((refusal as Refused).message).toContain('OrderPlaced.v2.json\n  golden: belongs to no row of the lock')
  copy.remove('schemas/golden/shopstream.order.OrderPlaced.v2.json')
  await register(options)
  expect(await checkSchemas(options)).toEqual([])
})

describe('is refused, and nothing is written:', () => {
  const faults: [what: string, words: string, spoil: () => void][] = [
    [
      'a field without doc',
      'OrderPlaced.userId has no doc',
      () => copy.replace(orderPlaced, '"doc": "The buyer.", ', ''),
    ],
    [
      'a nested field without doc',
      'shopstream.order.OrderLine.sku has no doc',
      () => copy.replace(orderPlaced, '"doc": "The product.", ', ''),
    ],
    ['a field with an empty doc', 'OrderPlaced.userId has no doc', () => copy.replace(orderPlaced, 'The buyer.', ' ')],
    [
      'another name than its path',
      'by its path it is shopstream.order.OrderPlaced',
      () => copy.replace(orderPlaced, '"name": "OrderPlaced"', '"name": "OrderMade"'),
    ],
    [
      'shared records that differ',
      'shopstream.Money is defined in different ways',
      () => copy.replace(orderPlaced, 'An amount of money.', 'Cash.'),
    ],
    [
      'what the codec does not keep',
      'OrderPlaced.orderId: logical type guid is not registered',
      () => copy.replace(orderPlaced, '"logicalType": "uuid"', '"logicalType": "guid"'),
    ],
    [
      'an alias that is no name',
      'user-id',
      () => copy.replace(orderPlaced, '"name": "userId"', '"name": "userId", "aliases": ["user-id"]'),
    ],
    [
      'a default that does not fit',
      'does not fit the type int',
      () =>
        copy.edit('schemas/stock/StockLevelChanged.avsc', (schema) =>
          schema.fields.push({ name: 'more', doc: 'More.', type: 'int', default: 'one' }),
        ),
    ],
    [
      'a default of an int that is written as no integer',
      '1.0 does not fit the type int',
      () =>
        copy.replace(
          orderPlaced,
          '{ "name": "userId"',
          '{ "name": "more", "doc": "More.", "type": "int", "default": 1.0 }, { "name": "userId"',
        ),
    ],
    ['what is no JSON', 'OrderPlaced.avsc', () => copy.write(orderPlaced, '{')],
    [
      'a key twice in one object',
      'the key "doc" is there twice',
      () => copy.replace(orderPlaced, '"doc": "The buyer."', '"doc": "One.", "doc": "The buyer."'),
    ],
    [
      'a registered event without a file',
      'OrderPlaced is registered and has no file',
      () => rmSync(join(copy.root, orderPlaced)),
    ],
    [
      'a change of SchemaRegistered',
      'built into every reader',
      () => copy.replace('schemas/schema/SchemaRegistered.avsc', '"type": "int"', '"type": "long"'),
    ],
    [
      'a lock whose row was altered',
      'not the one that was registered',
      () => copy.replace(lockFile, '"name":"carrier"', '"name":"haulier"'),
    ],
    [
      'a lock with an id twice',
      'id 100002 is not above 100002 of the row before: two branches registered at the same time. Take those of main',
      () => copy.replace(lockFile, '"id":100003', '"id":100002'),
    ],
    ['a lock with a version left out', 'is 2, not 1', () => copy.replace(lockFile, '"version":1', '"version":2')],
    [
      'a lock with conflict marks',
      'was not checked: two branches registered at the same time',
      () => copy.write(lockFile, `<<<<<<< HEAD\n${copy.read(lockFile)}`),
    ],
    ['a lock that is cut off', 'restore it from main', () => copy.write(lockFile, copy.read(lockFile).slice(0, -3))],
    ['a topics lock with conflict marks', 'the marks of a merge conflict', () => copy.write(topicsLockFile, '<<<<<<<')],
    [
      'two events of one short name',
      'readers find events by it',
      () => {
        const rows = copy.lock()
        const row = {
          ...(rows.at(-1) as Json),
          id: (rows.at(-1)?.id ?? 0) + 1,
          subject: 'shopstream.sale.OrderPlaced',
          version: 1,
        }
        copy.write(lockFile, JSON.stringify([...rows, row]))
      },
    ],
  ]
  test.each(faults)('%s', async (_, words, spoil) => {
    spoil()
    const files = [lockFile, topicsLockFile, ...derived]
    const before = files.map(copy.read)
    const refusal = await register(options).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(Refused)
    expect((refusal as Refused).message).toContain(words)
    expect(files.map(copy.read)).toEqual(before)
    expect(dirname(typesFile)).toContain('generated')
  })
})

test.each([
  ['record', 'Date', 'taken by JavaScript'],
  ['enum', 'Buffer', 'taken by JavaScript'],
  ['record', 'Record', 'taken by the generated types'],
  ['record', 'EventDefaults', 'taken by the generated types'],
  ['enum', 'string', 'taken by words of TypeScript'],
])('the name of a nested type that is taken in TypeScript: %s %s', async (type, name, words) => {
  const more = type === 'enum' ? { symbols: ['A'], default: 'A' } : { fields: [{ name: 'a', doc: 'A.', type: 'int' }] }
  const items = { type, name, doc: 'Something.', ...more }
  const added = { name: 'added', doc: 'More.', type: { type: 'array', items }, default: [] }
  copy.edit(orderPlaced, (schema) => schema.fields.push(added))
  const messages = (await checkSchemas(options)).filter(({ rule }) => rule === 'clash').map(({ message }) => message)
  expect(messages).toEqual([expect.stringContaining(`shopstream.order.${name} would be ${name} in TypeScript`)])
  expect(messages[0]).toContain(words)
  expect(messages[0]).toContain('give it a name of its own')
  await expect(generate(options)).rejects.toThrow(words)
})

test('types of two events that have one name, in two namespaces', async () => {
  const nested = (namespace: string) => {
    const fields = [{ name: 'a', doc: 'A.', type: 'int' }]
    const items = { type: 'record', name: 'Parcel', namespace, doc: 'A parcel.', fields }
    return { name: 'parcels', doc: 'Them.', type: { type: 'array', items }, default: [] }
  }
  copy.edit(orderPlaced, (schema) => schema.fields.push(nested('shopstream.order')))
  copy.edit('schemas/order/OrderShipped.avsc', (schema) => schema.fields.push(nested('shopstream.shipping')))
  const messages = (await checkSchemas(options)).filter(({ rule }) => rule === 'clash').map(({ message }) => message)
  expect(messages).toEqual([
    `shopstream.shipping.Parcel is defined in different ways here and in ${orderPlaced}: ` +
      'make the definitions equal (also their docs), or give one of them another name',
  ])
})

describe('two branches that registered at the same time', () => {
  const shipped = 'schemas/order/OrderShipped.avsc'
  const addTo = (file: string) =>
    copy.edit(file, (schema) =>
      schema.fields.push({ name: 'fieldOfATest', doc: 'A note.', type: 'string', default: '' }),
    )
  const messages = async () => (await checkSchemas(options)).map(({ message }) => message)

  test.each<[string, (common: string, mains: string, ours: string) => string]>([
    [
      'with the marks of git',
      (common, mains, ours) => `${common}\n<<<<<<< HEAD\n${ours}=======\n${mains}>>>>>>> main\n`,
    ],
    ['with the rows of both', (common, mains, ours) => `${common}${mains.replace(/\n]\n$/, '')}${ours}`],
  ])('are told what to do, %s; and done, that is in order', async (_, merged) => {
    const common = copy.read(lockFile).replace(/\n]\n$/, '')
    const original = copy.read(shipped)
    addTo(shipped)
    await register(options)
    const ours = copy.read(lockFile).slice(common.length)
    copy.write(shipped, original)
    copy.write(lockFile, `${common}\n]\n`)
    copy.remove('schemas/golden/shopstream.order.OrderShipped.v2.json')
    addTo(orderPlaced)
    await register(options)
    const main = copy.read(lockFile)
    // the merge: both schemas, and the golden files of both
    addTo(shipped)
    copy.write('schemas/golden/shopstream.order.OrderShipped.v2.json', `{"schemaId":${idOf(ours)}}`)
    copy.write(lockFile, merged(common, main.slice(common.length), ours))
    const told = await messages()
    expect(told).toContainEqual(expect.stringContaining('two branches registered at the same time. Take'))
    expect(told.length).toBeLessThan(4)

    copy.write(lockFile, main)
    const golden = (await checkSchemas(options)).find(({ rule }) => rule === 'golden')
    expect(golden?.message).toContain('delete this file')
    copy.remove(golden?.path ?? '')
    await register(options)
    expect(await messages()).toEqual([])
    expect(copy.lock().at(-1)).toMatchObject({ subject: 'shopstream.order.OrderShipped', id: idOf(ours) + 1 })
  })

  const idOf = (rows: string) => Number(/"id":(\d+)/.exec(rows)?.[1])
})

test('an event in no topic, and one that only a topic knows', async () => {
  const lost = topics.map((one) => ({ ...one, events: one.events.filter((event) => event !== 'StockSold') }))
  const findings = await checkSchemas({ ...options, topics: lost })
  expect(findings.map(({ message }) => message).join('\n')).toContain('StockSold is in no topic')
  const unknown = await checkSchemas(withEvent('StockStolen', 'shop.stock.v1'))
  expect(unknown.map(({ message }) => message).join('\n')).toContain('lists StockStolen, which has no file')
  const twice = await checkSchemas(withEvent('StockSold', 'shop.stock.v1'))
  expect(twice.map(({ message }) => message).join('\n')).toContain('StockSold is in several topics')
})

test('every finding is told, not the first alone', async () => {
  copy.replace(orderPlaced, '"doc": "The buyer.", ', '')
  copy.replace('schemas/order/OrderShipped.avsc', '"name": "carrier"', '"name": "haulier"')
  copy.replace('schemas/reservation/StockRejected.avsc', '"type": "int"', '"type": "string"')
  const findings = await checkSchemas(options)
  const places = findings.map(({ rule, path }) => `${rule} ${path}`)
  expect(places).toEqual(
    expect.arrayContaining([
      'documentation schemas/order/OrderPlaced.avsc',
      'compatibility schemas/order/OrderShipped.avsc',
      'compatibility schemas/reservation/StockRejected.avsc',
    ]),
  )
})
