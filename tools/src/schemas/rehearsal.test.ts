import { globSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { type EventName, type Topic, topics } from '@shopstream/events'
import { register } from '../workspace/register.ts'
import { type CheckOptions, checkSchemas } from './check.ts'
import { workspace } from './files.ts'
import { type Finding, Refused, type Rule } from './findings.ts'
import { layOut } from './layout.ts'
import { lockFile } from './lock.ts'
import { type Copy, copySchemas, type Json, ofTheShop } from './testing.ts'
import { readWiring, type ServiceWiring } from './wiring.ts'

let services: ServiceWiring[]
let copy: Copy
let restore: () => void
let options: CheckOptions & { topics: readonly Topic[]; wiring: ServiceWiring[] }
/** With an event beside the shop's own, which each test begins with. */
let prepared: { copy: Copy; options: typeof options }

beforeAll(async () => {
  services = ofTheShop(await readWiring(workspace))
  copy = copySchemas(layOut)
  options = { root: copy.root, wiring: services, topics }
  await registerOrderRehearsed()
  prepared = { copy, options }
})
afterAll(() => prepared.copy.drop())

beforeEach(() => {
  copy = prepared.copy.again()
  options = { ...prepared.options, root: copy.root }
  restore = snapshot()
})
afterEach(() => copy.drop())

const placed = 'schemas/order/OrderPlaced.avsc'
const shipped = 'schemas/order/OrderShipped.avsc'
const rejected = 'schemas/reservation/StockRejected.avsc'
const returned = 'schemas/order/OrderRehearsed.avsc'
const opened = 'schemas/order/OrderOpened.avsc'

const uuid = { type: 'string', logicalType: 'uuid' }
const time = { type: 'long', logicalType: 'timestamp-millis' }

const recordOf = (name: string, fields: Json[]) => ({
  type: 'record',
  name,
  namespace: 'shopstream.order',
  doc: 'An order.',
  fields: fields.map((field) => ({ ...field, doc: 'A field.' })),
})

/** An event beside the shop's own, which have no enum and no optional field yet. Two services consume it. */
async function registerOrderRehearsed(): Promise<void> {
  const enumOf = (name: string, more: Json) => ({
    type: 'enum',
    name,
    doc: 'One.',
    symbols: ['broken', 'late'],
    ...more,
  })
  const weight = { name: 'weight', doc: 'In g.', type: 'int' }
  const parcel = { type: 'record', name: 'RehearsedParcel', doc: 'A parcel.', fields: [weight] }
  const fields = [
    { name: 'orderId', type: uuid },
    { name: 'reason', type: enumOf('ReturnReason', { default: 'broken' }) },
    { name: 'verdict', type: enumOf('ReturnVerdict', {}) },
    { name: 'note', type: ['null', 'string'], default: null },
    { name: 'pieces', type: 'int', default: 1 },
    { name: 'parcel', type: ['null', parcel], default: null },
  ]
  copy.write(returned, layOut(JSON.stringify(recordOf('OrderRehearsed', fields))))
  list('OrderRehearsed')
  options.wiring = services.map((service) => {
    if (service.service === 'order')
      return { ...service, produces: [...service.produces, 'OrderRehearsed' as EventName] }
    if (service.service !== 'inventory' && service.service !== 'notification') return service
    const row = { event: 'OrderRehearsed' as EventName, fields: ['orderId'] }
    return { ...service, consumes: [...service.consumes, row] }
  })
  await register(options)
}

/** Returns what puts schemas, topics and tables back to what they are now. */
function snapshot(): () => void {
  const filesOf = () => globSync('schemas/**/*.{avsc,json}', { cwd: copy.root })
  const texts = new Map(filesOf().map((file) => [file, copy.read(file)]))
  const { topics, wiring } = options
  return () => {
    for (const file of filesOf()) if (!texts.has(file)) copy.remove(file)
    for (const [file, text] of texts) copy.write(file, text)
    Object.assign(options, { topics, wiring })
  }
}

/** The advice of most findings: put back what it was, and add a new field for what is new. */
const restoreAndAdd = (file: string, type: Json, more: Json) => () => {
  restore()
  copy.edit(file, (schema) => schema.fields.push({ name: 'instead', doc: 'What is new.', type, ...more }))
}

function list(event: string): void {
  options.topics = options.topics.map((topic) =>
    topic.name === 'shop.order.v1' ? { ...topic, events: [...topic.events, event as EventName] } : topic,
  )
}

const changeTopic = (name: string, change: Partial<Topic>) => {
  options.topics = options.topics.map((topic) => (topic.name === name ? { ...topic, ...change } : topic))
}

const field = (schema: Json, name: string): Json => schema.fields.find((one: Json) => one.name === name)
const without = (schema: Json, name: string) => {
  schema.fields = schema.fields.filter((one: Json) => one.name !== name)
}

const inParcel = (schema: Json): Json[] => field(schema, 'parcel').type[1].fields
const addHeight = (schema: Json) => inParcel(schema).push({ name: 'height', doc: 'In mm.', type: 'int' })
const heightOf = (schema: Json) => inParcel(schema).find(({ name }: Json) => name === 'height')

interface Breaking {
  what: string
  edit: () => void
  rule: Rule
  /** Of the finding. */
  words: string[]
  consumers: string[]
  /** What the findings advise, and what they ask for, done to the letter; by default all is put back. */
  advice: string[]
  follow?: () => void
}

const breaking: Breaking[] = [
  {
    what: 'a field is renamed without an alias',
    edit: () => copy.edit(shipped, (schema) => (field(schema, 'carrier').name = 'haulier')),
    rule: 'compatibility',
    words: ['READER_FIELD_MISSING_DEFAULT_VALUE', 'haulier', 'stored messages in shop.order.v1'],
    consumers: ['inventory', 'notification'],
    advice: [
      'give the new field a default; a renamed one keeps its old name',
      'put the field back, and say in its doc that it is deprecated',
    ],
    follow: () =>
      copy.edit(shipped, (schema) => {
        field(schema, 'haulier').default = ''
        schema.fields.push({ name: 'carrier', doc: 'Deprecated.', type: 'string' })
      }),
  },
  {
    what: 'a field is renamed with an alias: old readers do not find it',
    edit: () =>
      copy.edit(shipped, (schema) =>
        Object.assign(field(schema, 'carrier'), { name: 'haulier', aliases: ['carrier'] }),
      ),
    rule: 'compatibility',
    words: ['READER_FIELD_MISSING_DEFAULT_VALUE', 'carrier', 'not yet redeployed', 'put the field back'],
    consumers: ['inventory', 'notification'],
    advice: ['put the field back', 'a new field with a default and without an alias'],
    follow: () =>
      copy.edit(shipped, (schema) => {
        schema.fields.push({ name: 'carrier', doc: 'Deprecated.', type: 'string' })
        without(schema, 'haulier')
        schema.fields.push({ name: 'haulier', doc: 'Who carries it.', type: 'string', default: '' })
      }),
  },
  {
    what: 'a field with a default is renamed without an alias, and the new one has none',
    edit: () =>
      copy.edit(returned, (schema) => {
        without(schema, 'pieces')
        schema.fields.push({ name: 'quantity', doc: 'How many.', type: 'int' })
      }),
    rule: 'compatibility',
    words: ['READER_FIELD_MISSING_DEFAULT_VALUE', 'quantity', 'stored messages'],
    consumers: ['inventory', 'notification'],
    advice: ['if it was pieces before, add that as its alias'],
    follow: () => copy.edit(returned, (schema) => (field(schema, 'quantity').aliases = ['pieces'])),
  },
  {
    what: 'a new field has no default',
    edit: () => copy.edit(placed, (schema) => schema.fields.push({ name: 'channel', doc: 'Where.', type: 'string' })),
    rule: 'compatibility',
    words: ['READER_FIELD_MISSING_DEFAULT_VALUE', 'channel', 'version 1 (id 1000', 'give the new field a default'],
    consumers: ['inventory'],
    advice: ['give the new field a default'],
    follow: () => copy.edit(placed, (schema) => (field(schema, 'channel').default = '')),
  },
  {
    what: 'a new field of an optional record has no default',
    edit: () => copy.edit(returned, addHeight),
    rule: 'compatibility',
    words: ['MISSING_UNION_BRANCH', 'height was not written', 'stored messages'],
    consumers: ['inventory', 'notification'],
    advice: ['Instead: give the new field a default; a renamed one keeps its old name ('],
    follow: () => copy.edit(returned, (schema) => Object.assign(heightOf(schema), { default: 0 })),
  },
  {
    what: 'a type is narrowed, deep inside',
    edit: () => copy.replace(placed, '"type": "long" }', '"type": "int" }'),
    rule: 'compatibility',
    words: ['TYPE_MISMATCH', 'unitPrice.amount', 'stored messages'],
    consumers: ['inventory'],
    advice: ['put back what it was, and add a new field with a default'],
    follow: restoreAndAdd(placed, 'int', { default: 0 }),
  },
  {
    what: 'a type is widened: old readers cannot read it',
    edit: () => copy.replace(rejected, '"type": "int" }', '"type": "long" }'),
    rule: 'compatibility',
    words: ['TYPE_MISMATCH', 'requested', 'not yet redeployed'],
    consumers: ['order'],
    advice: ['put back what it was, and add a new field with a default'],
    follow: restoreAndAdd(rejected, 'long', { default: 0 }),
  },
  {
    what: 'a type is replaced',
    edit: () => copy.edit(rejected, (schema) => (field(schema, 'shortages').type = 'string')),
    rule: 'compatibility',
    words: ['TYPE_MISMATCH', 'shortages'],
    consumers: ['order'],
    advice: ['put back what it was, and add a new field with a default'],
    follow: restoreAndAdd(rejected, 'string', { default: '' }),
  },
  {
    what: 'a symbol of an enum is removed',
    edit: () => copy.edit(returned, (schema) => field(schema, 'verdict').type.symbols.pop()),
    rule: 'compatibility',
    words: ['MISSING_ENUM_SYMBOLS', 'late', 'put the symbols back'],
    consumers: ['inventory', 'notification'],
    advice: ['put the symbols back'],
  },
  {
    what: 'a symbol is added to an enum without a default',
    edit: () => copy.edit(returned, (schema) => field(schema, 'verdict').type.symbols.push('stolen')),
    rule: 'compatibility',
    words: ['MISSING_ENUM_SYMBOLS', 'stolen', 'add a new field'],
    consumers: ['inventory', 'notification'],
    advice: ['take the symbol out again', 'add a new field with a default'],
    follow: restoreAndAdd(returned, 'boolean', { default: false }),
  },
  {
    what: 'a logical type changes',
    edit: () => copy.edit(shipped, (schema) => (field(schema, 'shippedAt').type = 'long')),
    rule: 'compatibility',
    words: ['LOGICAL_TYPE_CHANGED', 'timestamp-millis'],
    consumers: ['inventory', 'notification'],
    advice: ['put back what it was, and add a new field with a default'],
    follow: restoreAndAdd(shipped, 'long', { default: 0 }),
  },
  {
    what: 'the branch of a union is removed',
    edit: () => copy.edit(returned, (schema) => Object.assign(field(schema, 'note'), { type: 'string', default: '' })),
    rule: 'compatibility',
    words: ['TYPE_MISMATCH', 'null'],
    consumers: ['inventory', 'notification'],
    advice: ['put back what it was, and add a new field with a default'],
    follow: restoreAndAdd(returned, 'string', { default: '' }),
  },
  {
    what: 'a field becomes optional: old readers cannot take null',
    edit: () => copy.edit(shipped, (schema) => (field(schema, 'carrier').type = ['null', 'string'])),
    rule: 'compatibility',
    words: ['carrier', 'not yet redeployed'],
    consumers: ['inventory', 'notification'],
    advice: ['put back what it was, and add a new field with a default'],
    follow: restoreAndAdd(shipped, ['null', 'string'], { default: null }),
  },
  {
    what: 'a field without default is removed',
    edit: () => copy.edit(placed, (schema) => without(schema, 'total')),
    rule: 'compatibility',
    words: ['READER_FIELD_MISSING_DEFAULT_VALUE', 'total', 'put the field back'],
    consumers: ['inventory'],
    advice: ['put the field back'],
  },
  {
    what: 'a field is removed that a service uses, although it has a default',
    edit: () => {
      copy.edit(returned, (schema) => without(schema, 'pieces'))
      const using = { event: 'OrderRehearsed' as EventName, fields: ['pieces'] }
      options.wiring = [...options.wiring, { service: 'billing', produces: [], consumes: [using] }]
    },
    rule: 'wiring',
    words: ['billing consumes OrderRehearsed and uses its field pieces'],
    consumers: ['billing'],
    advice: ['restore the field'],
    follow: () =>
      copy.edit(returned, (schema) => schema.fields.push({ name: 'pieces', doc: 'A field.', type: 'int', default: 1 })),
  },
  {
    what: 'the key of a topic changes',
    edit: () => changeTopic('shop.order.v1', { key: 'user id' }),
    rule: 'topic-changed',
    words: ['key of shop.order.v1 is "user id" and was "order id"', 'order'],
    consumers: ['inventory', 'notification'],
    advice: ['Restore it'],
  },
  {
    what: 'a topic gets more partitions',
    edit: () => changeTopic('shop.stock.v1', { partitions: 12 }),
    rule: 'topic-changed',
    words: ['partitions of shop.stock.v1 is 12 and was 6', 'shop.stock.v2'],
    consumers: [],
    advice: ['Restore it'],
  },
  {
    what: 'a topic is cleaned up in another way',
    edit: () => changeTopic('shop.user.v1', { cleanup: 'delete' }),
    rule: 'topic-changed',
    words: ['cleanup of shop.user.v1 is "delete" and was "compact"'],
    consumers: ['notification'],
    advice: ['Restore it'],
  },
  {
    what: 'a topic is removed',
    edit: () => (options.topics = options.topics.filter(({ name }) => name !== 'shop.user.v1')),
    rule: 'topic-changed',
    words: ['shop.user.v1 is gone'],
    consumers: ['notification'],
    advice: ['Restore the topic'],
  },
  {
    what: 'an event moves to another topic',
    edit: () => {
      changeTopic('shop.stock.v1', { events: ['StockLevelChanged', 'StockReserved'] })
      changeTopic('shop.reservation.v1', { events: ['StockRejected', 'StockReleased', 'StockSold'] })
    },
    rule: 'topic-changed',
    words: ['StockReserved is no longer in shop.reservation.v1'],
    consumers: ['order'],
    advice: ['Put it back'],
  },
  {
    what: 'the namespace moves',
    edit: () => copy.edit(shipped, (schema) => (schema.namespace = 'shopstream.sale')),
    rule: 'name',
    words: ['shopstream.sale.OrderShipped', 'by its path it is shopstream.order.OrderShipped'],
    consumers: [],
    advice: ['give it that name'],
    follow: () => copy.edit(shipped, (schema) => (schema.namespace = 'shopstream.order')),
  },
  {
    what: 'the namespace moves, and the file with it',
    edit: () => {
      copy.write('schemas/sale/OrderShipped.avsc', copy.read(shipped).replace('shopstream.order', 'shopstream.sale'))
      copy.remove(shipped)
    },
    rule: 'removed',
    words: ['OrderShipped is registered and has no file'],
    consumers: ['inventory', 'notification'],
    advice: ['Restore schemas/order/OrderShipped.avsc'],
  },
  {
    what: 'the file of an event is renamed',
    edit: () => {
      copy.write('schemas/order/OrderSent.avsc', copy.read(shipped))
      copy.remove(shipped)
    },
    rule: 'name',
    words: ['by its path it is shopstream.order.OrderSent'],
    consumers: [],
    advice: ['or the file its old path'],
  },
  {
    what: 'the file of an event is removed that services declare',
    edit: () => copy.remove(shipped),
    rule: 'removed',
    words: ['OrderShipped is registered and has no file', 'Consumers: inventory, notification; producers: order'],
    consumers: ['inventory', 'notification'],
    advice: ['Restore schemas/order/OrderShipped.avsc'],
  },
  {
    what: 'a service declares an event that there is not',
    edit: () => {
      const row = { event: 'OrderLost' as EventName, fields: [] }
      options.wiring = [...options.wiring, { service: 'billing', produces: [], consumes: [row] }]
    },
    rule: 'removed',
    words: ['billing consumes OrderLost, which has no file'],
    consumers: ['billing'],
    advice: ['take it out of the table'],
  },
  {
    what: 'a row of the lock is edited',
    edit: () => copy.replace(lockFile, '"name":"carrier"', '"name":"haulier"'),
    rule: 'lock',
    words: ['the schema of 100009 shopstream.order.OrderShipped is not the one that was registered'],
    consumers: [],
    advice: ['restore the row as it was committed'],
  },
  {
    what: 'a row of the lock is removed',
    edit: () => copy.write(lockFile, copy.read(lockFile).replace(/\{"id":100009.*\n.*\n/, '')),
    rule: 'golden',
    words: ['belongs to no row of the lock'],
    consumers: [],
    advice: ['restore the row if it is on main'],
  },
  {
    what: 'the schema by which all others are learned changes',
    edit: () =>
      copy.edit('schemas/schema/SchemaRegistered.avsc', (schema) =>
        schema.fields.push({ name: 'note', doc: 'A note.', type: ['null', 'string'], default: null }),
      ),
    rule: 'pinned',
    words: ['built into every reader'],
    consumers: [],
    advice: ['restore its schema'],
  },
]

describe('refused:', () => {
  test.each(breaking)('$what', async ({ edit, rule, words, consumers }) => {
    const before = copy.lock()
    edit()
    const lock = copy.read(lockFile)
    const findings = await checkSchemas(options)
    const of = (found: readonly Finding[]) => found.filter((finding) => finding.rule === rule && says(finding, words))
    expect({ findings, found: of(findings).length > 0 }).toMatchObject({ found: true })
    for (const finding of of(findings)) {
      expect(finding.consumers ?? []).toEqual(consumers)
      for (const consumer of consumers) expect(finding.message).toContain(consumer)
    }
    const refusal = await register(options).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(Refused)
    expect(of((refusal as Refused).findings).length).toBeGreaterThan(0)
    expect(copy.read(lockFile)).toBe(lock)
    expect(before.length).toBeGreaterThan(22)
  })

  test.each(breaking)(
    '$what; what is advised, done to the letter, passes',
    async ({ edit, advice, follow = restore }) => {
      edit()
      const told = (await checkSchemas(options)).map(({ message }) => message).join('\n')
      for (const words of advice) expect(told).toContain(words)
      if (!advice.some((words) => words.includes('alias'))) expect(told).not.toMatch(/add .*alias/)
      follow()
      const rules = (await checkSchemas(options)).map(({ rule }) => rule)
      expect(rules.filter((rule) => rule !== 'unregistered')).toEqual([])
      await register(options)
      expect(await checkSchemas(options)).toEqual([])
    },
  )
})

const says = ({ message }: Finding, words: readonly string[]) => words.every((word) => message.includes(word))

interface Good {
  what: string
  edit: () => void
  /** How many versions are new. */
  versions: number
  /** What `check` says before it is registered; `unregistered` by default. */
  pending?: Rule[]
}

const good: Good[] = [
  {
    what: 'a new optional field',
    edit: () =>
      copy.edit(placed, (schema) =>
        schema.fields.push({ name: 'note', doc: 'A note.', type: ['null', 'string'], default: null }),
      ),
    versions: 1,
  },
  {
    what: 'a new field with a default, in the middle',
    edit: () =>
      copy.edit(shipped, (schema) =>
        schema.fields.splice(1, 0, { name: 'parcels', doc: 'How many.', type: 'int', default: 1 }),
      ),
    versions: 1,
  },
  {
    what: 'a new field with a record of its own, deep inside, in both events that share the type',
    edit: () => {
      const code = { name: 'code', doc: 'Code.', type: 'string' }
      const items = { type: 'record', name: 'Discount', doc: 'Less to pay.', fields: [code] }
      const discounts = { name: 'discounts', doc: 'All of them.', type: { type: 'array', items }, default: [] }
      for (const file of [placed, 'schemas/order/OrderConfirmed.avsc']) {
        copy.edit(file, (schema) => field(schema, 'lines').type.items.fields.push(discounts))
      }
    },
    versions: 2,
  },
  { what: 'docs', edit: () => copy.replace(shipped, 'Who carries it', 'Who brings it'), versions: 0, pending: [] },
  {
    what: 'layout',
    edit: () => copy.write(shipped, JSON.stringify(JSON.parse(copy.read(shipped)))),
    versions: 0,
    pending: ['layout'],
  },
  {
    what: 'a new symbol of an enum with a default',
    edit: () => copy.edit(returned, (schema) => field(schema, 'reason').type.symbols.push('unwanted')),
    versions: 1,
  },
  {
    what: 'a removed symbol of an enum with a default',
    edit: () => copy.edit(returned, (schema) => field(schema, 'reason').type.symbols.pop()),
    versions: 1,
  },
  {
    what: 'a field with a default is removed that nobody uses',
    edit: () => copy.edit(returned, (schema) => without(schema, 'pieces')),
    versions: 1,
  },
  {
    what: 'a field with a default is renamed with an alias',
    edit: () =>
      copy.edit(returned, (schema) =>
        Object.assign(field(schema, 'pieces'), { name: 'quantity', aliases: ['pieces'] }),
      ),
    versions: 1,
  },
  { what: 'another order of fields', edit: () => copy.edit(shipped, ({ fields }) => fields.reverse()), versions: 1 },
  {
    what: 'another default',
    edit: () => copy.edit(returned, (schema) => (field(schema, 'pieces').default = 2)),
    versions: 1,
  },
  {
    what: 'a new event',
    edit: () => {
      const fields = [
        { name: 'orderId', type: uuid },
        { name: 'openedAt', type: time },
      ]
      copy.write(opened, layOut(JSON.stringify(recordOf('OrderOpened', fields))))
      list('OrderOpened')
    },
    versions: 1,
    pending: ['unregistered', 'topic-unregistered'],
  },
  {
    what: 'a new topic',
    edit: () => {
      const [, , , template] = options.topics
      options.topics = [...options.topics, { ...(template as Topic), name: 'shop.return.v1', events: [] }]
    },
    versions: 0,
    pending: ['topic-unregistered'],
  },
]

describe('passes:', () => {
  test.each(good)('$what', async ({ edit, versions, pending = ['unregistered'] }) => {
    const before = copy.lock()
    edit()
    const rules = (await checkSchemas(options)).map(({ rule }) => rule)
    expect([...new Set(rules)]).toEqual(pending)
    await register(options)
    const after = copy.lock()
    expect(await checkSchemas(options)).toEqual([])
    expect(after.slice(0, before.length)).toEqual(before)
    expect(after.slice(before.length).map(({ id }) => id)).toEqual(
      Array.from({ length: versions }, (_, at) => (before.at(-1)?.id ?? 0) + 1 + at),
    )
    expect(await register(options)).toEqual({ versions: [], written: [] })
  })
})
