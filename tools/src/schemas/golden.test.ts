import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from '@jest/globals'
import { decode, encode, registry } from '@shopstream/events'
import { createCodec, type LockEntry } from '@shopstream/events/codec'
import { asJson, goldenFile, readGolden } from '@shopstream/testing/golden'
import { goldenOf, writeGolden } from './golden.ts'

const golden = new Map(readGolden().map((file) => [file.schemaId, file]))
const mend = 'restore it, or run `npm run schemas -- register` for a new version'
const newest = new Map(registry.map(({ subject, version }) => [subject, version]))

describe.each(registry.map((row) => [`${row.subject} v${row.version}`, row] as const))('%s', (_, row) => {
  const { id, subject, version } = row

  test('has its golden bytes', () => {
    expect(golden.get(id) ?? `${goldenFile(row)} is missing: ${mend}`).toMatchObject({ schemaId: id, subject, version })
  })

  test('says by its golden bytes what was written once', () => {
    const { event, schemaId, data } = createCodec([row]).decode(bytesOf(id))
    expect({ schemaId, subject: `${subject.slice(0, subject.lastIndexOf('.'))}.${event}` }).toEqual({
      schemaId: id,
      subject,
    })
    expect(asJson(data)).toEqual(golden.get(id)?.value)
  })

  test('is read by the code of today', () => {
    const { event, data } = decode(bytesOf(id))
    const again = encode(event, data as never) // refuses what is not exactly an event of today
    if (version === newest.get(subject)) expect(again.toString('hex')).toBe(golden.get(id)?.hex)
  })
})

function bytesOf(id: number): Buffer {
  const hex = golden.get(id)?.hex
  if (hex === undefined) throw new Error(`schema ${id} has no golden bytes: ${mend}`)
  return Buffer.from(hex, 'hex')
}

test('no golden bytes are of a schema that the lock does not know', () => {
  const ids = new Set(registry.map(({ id }) => id))
  expect([...golden.values()].filter(({ schemaId }) => !ids.has(schemaId))).toEqual([])
})

describe('writing', () => {
  const folders: string[] = []
  const folder = () => {
    folders.push(mkdtempSync(join(tmpdir(), 'shopstream-golden-')))
    return folders.at(-1) as string
  }
  afterEach(() => {
    for (const each of folders.splice(0)) rmSync(each, { recursive: true })
  })
  const [first, second] = registry as unknown as [LockEntry, LockEntry]

  test('makes one file per row, the same from the same row', () => {
    const root = folder()
    expect(writeGolden(root, [first, second])).toEqual([goldenFile(first), goldenFile(second)])
    expect(readFileSync(join(root, goldenFile(first)), 'utf8')).toBe(goldenOf(first))
    expect(goldenOf(structuredClone(first))).toBe(goldenOf(first))
  })

  test('never rewrites, and then writes nothing else', () => {
    const root = folder()
    writeGolden(root, [first])
    expect(() => writeGolden(root, [second, first])).toThrow(`${goldenFile(first)}: golden bytes are never rewritten`)
    expect(readGolden(root).map(({ schemaId }) => schemaId)).toEqual([first.id])
  })

  test('finds an example for every kind of type', () => {
    const types = ['boolean', 'int', 'long', 'float', 'double', 'string', 'bytes']
    const fields = [
      ...types.map((type) => ({ name: `a_${type}`, type })),
      { name: 'id', type: { type: 'string', logicalType: 'uuid' } },
      { name: 'at', type: { type: 'long', logicalType: 'timestamp-millis' } },
      { name: 'state', type: { type: 'enum', name: 'State', symbols: ['on', 'off'] } },
      { name: 'mark', type: { type: 'fixed', name: 'Mark', size: 4 } },
      { name: 'map', type: { type: 'map', values: 'long' } },
      { name: 'email', type: ['null', 'string'] },
      { name: 'amount', type: 'string' }, // a long elsewhere
    ]
    const schema = { type: 'record', name: 'shop.Every', fields }
    const { hex, value } = JSON.parse(goldenOf({ id: 7, subject: 'shop.Every', version: 1, fingerprint: '', schema }))
    const { data } = createCodec<{ Every: object }>([
      { id: 7, subject: 'shop.Every', version: 1, fingerprint: '', schema },
    ]).decode(Buffer.from(hex, 'hex'))
    expect(asJson(data)).toEqual(value)
    expect(value).toMatchObject({ email: 'zoe@example.com', amount: 'the amount', state: 'on' })
  })
})
