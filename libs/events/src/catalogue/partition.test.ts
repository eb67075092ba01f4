import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { murmur2, partitionOf } from './partition.ts'

// UtilsTest.testMurmur2 of Apache Kafka; the last three are librdkafka's.
test.each<[string, number]>([
  ['21', -973932308],
  ['foobar', -790332482],
  ['a-little-bit-long-string', -985981536],
  ['a-little-bit-longer-string', -1486304829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
  ['abc', 479470107],
  ['', 275646681],
  ['kafka', -798503068],
  ['giberish123456789', -1890243828],
])('murmur2 of %p', (key, hash) => {
  expect(murmur2(Buffer.from(key))).toBe(hash)
  expect(partitionOf(key, 6)).toBe((hash & 0x7fffffff) % 6)
})

test('every key has a partition', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 1, max: 1000 }), (key, partitions) => {
      const partition = partitionOf(key, partitions)
      expect(Number.isInteger(partition) && partition >= 0 && partition < partitions).toBe(true)
    }),
  )
})
