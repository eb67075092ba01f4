import { expect, test } from '@jest/globals'
import { readServices } from '../services.ts'
import { snapshotOrder } from './snapshot-order.ts'

test('whoever consumes of another is looked at before it, but for orders and reservations, which know of each other', async () => {
  const wiring = await readServices()
  const order = snapshotOrder(wiring)
  expect([...order].sort()).toEqual(wiring.map(({ service }) => service).sort())
  for (const { service: reader, consumes } of wiring)
    for (const { service: writer, produces } of wiring) {
      const reads = consumes.some(({ event }) => produces.includes(event))
      if (!reads || (reader === 'order' && writer === 'inventory')) continue
      expect({ reader, writer, at: order.indexOf(reader as never) < order.indexOf(writer as never) }).toEqual({
        reader,
        writer,
        at: true,
      })
    }
})
