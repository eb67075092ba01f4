import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AvroSchemaParser } from '@asyncapi/avro-schema-parser'
import { Parser } from '@asyncapi/parser'
import { expect, test } from '@jest/globals'
import { pageOf, spelledOut } from './viewer.ts'

const money = { type: 'record', name: 'Money', namespace: 'shop', fields: [{ name: 'amount', type: 'long' }] }

test('a type that is named again is spelled out, under a name of its own', () => {
  const schema = {
    type: 'record',
    name: 'Order',
    namespace: 'shop',
    fields: [
      { name: 'lines', type: { type: 'array', items: money } },
      { name: 'total', type: 'shop.Money' },
      { name: 'refund', type: ['null', 'shop.Money'] },
      { name: 'rates', type: { type: 'map', values: 'shop.Money' } },
      { name: 'note', type: 'string' },
    ],
  }
  const again = (place: string) => ({ ...money, namespace: `shop.${place}` })
  expect(spelledOut(schema)).toEqual({
    ...schema,
    fields: [
      { name: 'lines', type: { type: 'array', items: money } },
      { name: 'total', type: again('total') },
      { name: 'refund', type: ['null', again('refund')] },
      { name: 'rates', type: { type: 'map', values: again('rates') } },
      { name: 'note', type: 'string' },
    ],
  })
})

test('the page holds the document of this workspace, with every field typed, and as one that cannot end its script', async () => {
  const yaml = readFileSync(join(import.meta.dirname, '../../../schemas/asyncapi.yaml'), 'utf8')
  const page = pageOf(yaml.replace('An order was accepted', '</script> An order was accepted'))
  expect(page.match(/<\/script>/g)).toHaveLength(2)
  const held = JSON.parse(/schema: ("(?:[^"\\]|\\.)*")/.exec(page)?.[1] ?? '""') as string
  const parser = new Parser()
  parser.registerSchemaParser(AvroSchemaParser())
  const { document, diagnostics } = await parser.parse(held)
  expect(diagnostics.filter(({ severity }) => severity <= 1)).toEqual([])
  const message = document?.components().messages().get('OrderPlaced')
  expect(message?.summary()).toMatch(/^<\/script> An order/)
  expect(message?.payload()?.properties()?.total?.properties()?.amount?.type()).toBe('integer')
})
