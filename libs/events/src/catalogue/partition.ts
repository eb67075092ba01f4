/**
 * The partition of a key, as Kafka's Java client chooses it: murmur2 of the key's UTF-8 bytes without the sign, modulo
 * the number of partitions. Producers in other languages agree with it.
 * Source: `Utils.murmur2` and `BuiltInPartitioner.partitionForKey` of Apache Kafka.
 */
export function partitionOf(key: string, partitions: number): number {
  return (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions
}

const multiplier = 0x5bd1e995
const seed = 0x9747b28c

/** Austin Appleby's 32-bit murmur2 with Kafka's seed, as a signed integer. */
export function murmur2(bytes: Buffer): number {
  const whole = bytes.length - (bytes.length % 4)
  let hash = seed ^ bytes.length
  for (let at = 0; at < whole; at += 4) {
    let word = Math.imul(bytes.readInt32LE(at), multiplier)
    word ^= word >>> 24
    hash = Math.imul(hash, multiplier) ^ Math.imul(word, multiplier)
  }
  const rest = bytes.length - whole
  if (rest > 0) hash = Math.imul(hash ^ bytes.readUIntLE(whole, rest), multiplier)
  hash ^= hash >>> 13
  hash = Math.imul(hash, multiplier)
  return hash ^ (hash >>> 15)
}
