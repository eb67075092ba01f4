import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { GenerateError, generate } from './generate.ts'

const workspace = join(import.meta.dirname, '../..')
const lockFile = 'schemas/registry.lock.json'
const typesFile = 'libs/events/src/generated/events.ts'
const orderPlaced = 'schemas/order/OrderPlaced.avsc'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'generate-'))
  cpSync(join(workspace, 'schemas'), join(root, 'schemas'), { recursive: true })
  cpSync(join(workspace, dirname(typesFile)), join(root, dirname(typesFile)), { recursive: true })
})
afterEach(() => rmSync(root, { recursive: true }))

const read = (file: string) => readFileSync(join(root, file), 'utf8')
const write = (file: string, text: string) => {
  mkdirSync(join(root, dirname(file)), { recursive: true })
  writeFileSync(join(root, file), text)
}
const change = (file: string, from: string, to: string) => {
  expect(read(file)).toContain(from)
  write(
    file,
    read(file).replaceAll(from, () => to),
  )
}
const lock = () => JSON.parse(read(lockFile))
const check = () => generate({ check: true, root })
const run = () => generate({ check: false, root })

const withNote = () =>
  change(
    orderPlaced,
    '"fields": [\n    { "name": "orderId"',
    '"fields": [\n    { "name": "note", "doc": "A note.", "type": ["null", "string"], "default": null },\n    { "name": "orderId"',
  )

test('what is committed is fresh', async () => {
  expect(await generate({ check: true })).toEqual([])
})

test('a fresh workspace has nothing written', async () => {
  expect(await run()).toEqual([])
})

describe('a changed schema', () => {
  test('is stale until a version is appended, and no old row changes by a byte', async () => {
    const before = read(lockFile)
    const rows = lock()
    withNote()
    expect(await check()).toEqual([
      `${lockFile} is stale: run \`npm run generate\` and commit the result`,
      `${typesFile} is stale: run \`npm run generate\` and commit the result`,
    ])
    expect(read(lockFile)).toBe(before)
    expect(await run()).toEqual([`${lockFile} written`, `${typesFile} written`])
    expect(read(lockFile).startsWith(before.replace(/\n\]\n$/, ''))).toBe(true)
    expect(lock().slice(0, -1)).toEqual(rows)
    expect(lock().at(-1)).toMatchObject({ id: rows.at(-1).id + 1, subject: 'shopstream.order.OrderPlaced', version: 2 })
    expect(read(typesFile)).toContain('note: string | null')
    expect(await check()).toEqual([])
    expect(await run()).toEqual([])
  })

  test('that goes back to what it was is a third version', async () => {
    const original = read(orderPlaced)
    withNote()
    await run()
    write(orderPlaced, original)
    await run()
    const versions = lock().filter(({ subject }: { subject: string }) => subject.endsWith('.OrderPlaced'))
    expect(versions.map(({ version }: { version: number }) => version)).toEqual([1, 2, 3])
    expect(versions[2].fingerprint).toBe(versions[0].fingerprint)
    expect(versions[2].id).toBe(versions[1].id + 1)
  })

  test('only in its docs or its layout is no new version', async () => {
    change(orderPlaced, 'An order was accepted', 'An order came in')
    write(orderPlaced, JSON.stringify(JSON.parse(read(orderPlaced))))
    const before = read(lockFile)
    expect(await run()).toEqual([`${typesFile} written`])
    expect(read(lockFile)).toBe(before)
  })
})

test('a new event gets the next id, also when it sorts first', async () => {
  const last = lock().at(-1).id
  const fields = [{ name: 'at', doc: 'When.', type: { type: 'long', logicalType: 'timestamp-millis' } }]
  write(
    'schemas/alert-rule/AlertRaised.avsc',
    JSON.stringify({
      type: 'record',
      name: 'AlertRaised',
      namespace: 'shopstream.alert_rule',
      doc: 'Ring.\nNow. */',
      fields,
    }),
  )
  await run()
  expect(lock().at(-1)).toMatchObject({ id: last + 1, subject: 'shopstream.alert_rule.AlertRaised', version: 1 })
  expect(read(typesFile)).toContain(
    '/**\n * Ring.\n * Now. *\\/ Avro: `shopstream.alert_rule.AlertRaised`.\n */\nexport interface AlertRaised {\n  /** When. */\n  at: Date\n}',
  )
})

test('all is made again when lock and types are gone, with SchemaRegistered at its pinned id', async () => {
  const before = [read(lockFile), read(typesFile)]
  rmSync(join(root, lockFile))
  rmSync(join(root, typesFile))
  await run()
  expect([read(lockFile), read(typesFile)]).toEqual(before)
  expect(lock()[0]).toMatchObject({ id: 100_001, subject: 'shopstream.schema.SchemaRegistered', version: 1 })
})

test('enums, maps and nullable values as types', async () => {
  const color = { type: 'enum', name: 'Color', doc: 'A color.', symbols: ['red', 'green'] }
  const fields = [
    { name: 'color', doc: 'c', type: color },
    { name: 'colors', doc: 'c', type: { type: 'array', items: ['null', 'Color'] } },
    { name: 'weights', doc: 'w', type: { type: 'map', values: 'long' } },
    { name: 'raw', doc: 'r', type: ['null', 'bytes'] },
  ]
  write(
    'schemas/stock/Painted.avsc',
    JSON.stringify({ type: 'record', name: 'Painted', namespace: 'shopstream.stock', doc: 'p', fields }),
  )
  await run()
  const types = read(typesFile)
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

describe('is refused, and nothing is written:', () => {
  const faults: [what: string, words: string, spoil: () => void][] = [
    ['a field without doc', 'OrderPlaced.userId has no doc', () => change(orderPlaced, '"doc": "The buyer.", ', '')],
    [
      'a nested field without doc',
      'shopstream.order.OrderLine.sku has no doc',
      () => change(orderPlaced, '"doc": "The product.", ', ''),
    ],
    [
      'another name than its path',
      'by its path it is shopstream.order.OrderPlaced',
      () => change(orderPlaced, '"name": "OrderPlaced"', '"name": "OrderMade"'),
    ],
    [
      'shared records that differ',
      'shopstream.Money is defined in different ways',
      () => change(orderPlaced, 'An amount of money.', 'Cash.'),
    ],
    [
      'what the codec does not keep',
      'OrderPlaced.orderId: logical type guid is not registered',
      () => change(orderPlaced, '"logicalType": "uuid"', '"logicalType": "guid"'),
    ],
    [
      'a default that does not fit',
      'shopstream.stock.StockLevelChanged: incompatible field default',
      () => change('schemas/stock/StockLevelChanged.avsc', '"type": "int"', '"type": "int", "default": "one"'),
    ],
    ['what is no JSON', 'OrderPlaced.avsc: ', () => write(orderPlaced, '{')],
    [
      'a registered event without a file',
      'shopstream.order.OrderPlaced is registered and has no file',
      () => rmSync(join(root, orderPlaced)),
    ],
    [
      'a change of SchemaRegistered',
      'built into every reader',
      () => change('schemas/schema/SchemaRegistered.avsc', '"type": "int"', '"type": "long"'),
    ],
    [
      'a lock whose row was altered',
      'not the one that was registered',
      () => change(lockFile, '"name":"carrier"', '"name":"haulier"'),
    ],
    ['a lock with an id twice', 'id 100002 is not above 100002', () => change(lockFile, '"id":100003', '"id":100002')],
    ['a lock with a version left out', 'is 2, not 1', () => change(lockFile, '"version":1', '"version":2')],
    ['a lock with conflict marks', 'cannot be read', () => write(lockFile, `<<<<<<< HEAD\n${read(lockFile)}`)],
  ]
  test.each(faults)('%s', async (_, words, spoil) => {
    spoil()
    const types = read(typesFile)
    expect((await check()).join('\n')).toContain(words)
    const failure = await run().catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(GenerateError)
    expect((failure as GenerateError).problems.join('\n')).toContain(words)
    expect(read(typesFile)).toBe(types)
  })
})

test('the command itself does what it says', async () => {
  const child = spawn(process.execPath, ['tools/bootstrap.mjs', 'generate', '--help'], { cwd: workspace })
  const text = await child.stdout.reduce((all, part) => all + part, '')
  expect(String(text)).toContain('npm run generate')
})
