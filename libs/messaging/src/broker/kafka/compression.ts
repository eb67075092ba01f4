import zlib from 'node:zlib'

/** Bytes that no decoder takes, or that hold more than is allowed. */
export class UnreadableBytes extends Error {}

/** They would unpack to more bytes than allowed. */
export class TooManyBytes extends UnreadableBytes {}

/** The codecs of Kafka's protocol, by the lowest three bits of a batch's attributes. */
const decoders: readonly ((bytes: Buffer, limit: number) => Buffer)[] = [
  (bytes) => bytes,
  (bytes, limit) => zlib.gunzipSync(bytes, { maxOutputLength: limit }),
  snappy,
  lz4,
  (bytes, limit) => zlib.zstdDecompressSync(bytes, { maxOutputLength: limit }),
]
const names = ['uncompressed', 'gzip', 'snappy', 'lz4', 'zstd']

/**
 * Unpacks what a codec of Kafka's protocol has packed.
 * @param codec 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
 * @param limit most bytes of the result; checked before memory is taken, whatever size the bytes claim.
 * Throws {@link UnreadableBytes}.
 */
export function decompress(codec: number, bytes: Buffer, limit: number): Buffer {
  const decode = decoders[codec]
  if (!decode) throw new UnreadableBytes(`compression codec ${codec} is none of Kafka's`)
  try {
    return decode(bytes, limit)
  } catch (error) {
    if (error instanceof UnreadableBytes) throw error
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(limit)
    throw new UnreadableBytes(`${names[codec]} cannot be unpacked: ${message}`, { cause: error })
  }
}

const tooLarge = (limit: number) => new TooManyBytes(`unpacked, it would have more than ${limit} bytes`)

/**
 * Output buffer of a decoder that copies from its own output. It is bounded and grows as it fills, so a false claimed
 * length costs nothing. LZ4 and Snappy consist of literals and such copies.
 */
class Output {
  #bytes: Buffer
  #length = 0
  readonly #limit: number

  constructor(expected: number, limit: number) {
    this.#limit = limit
    this.#bytes = Buffer.allocUnsafe(Math.min(Math.max(expected, 1_024), limit, 1_048_576))
  }

  get length(): number {
    return this.#length
  }

  literal(source: Buffer, start: number, end: number): void {
    if (end > source.length) throw new UnreadableBytes('the compressed bytes end too early')
    this.#reserve(end - start)
    source.copy(this.#bytes, this.#length, start, end)
    this.#length += end - start
  }

  /** Copies `length` bytes from `distance` bytes back; they may overlap with what is written. */
  copy(distance: number, length: number): void {
    if (distance === 0 || distance > this.#length) throw new UnreadableBytes('a copy from before the beginning')
    this.#reserve(length)
    const from = this.#length - distance
    for (let left = length; left > 0; ) {
      // What has been copied can be copied again: each round doubles the stretch that repeats.
      const step = Math.min(left, this.#length - from)
      this.#bytes.copyWithin(this.#length, from, from + step)
      this.#length += step
      left -= step
    }
  }

  taken(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  #reserve(more: number): void {
    const needed = this.#length + more
    if (needed > this.#limit) throw tooLarge(this.#limit)
    if (needed <= this.#bytes.length) return
    const larger = Buffer.allocUnsafe(Math.min(this.#limit, Math.max(needed, this.#bytes.length * 2)))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}

const xerialMagic = Buffer.from('\x82SNAPPY\0', 'latin1')
const xerialHeaderBytes = 16

/**
 * Java's clients frame Snappy as xerial's stream does: a header of 16 bytes, then blocks that each bring their length
 * (big endian); librdkafka writes a single block without a frame.
 */
function snappy(bytes: Buffer, limit: number): Buffer {
  if (!bytes.subarray(0, xerialMagic.length).equals(xerialMagic)) return snappyBlock(bytes, limit)
  const blocks: Buffer[] = []
  let total = 0
  for (let at = xerialHeaderBytes; at < bytes.length; ) {
    const size = readable(bytes, at, 4).readInt32BE(at)
    at += 4
    const block = snappyBlock(readable(bytes, at, size).subarray(at, at + size), limit, total)
    total += block.length
    blocks.push(block)
    at += size
  }
  return Buffer.concat(blocks)
}

/** Throws where `length` bytes from `at` on are not there. */
function readable(bytes: Buffer, at: number, length: number): Buffer {
  if (length < 0 || at + length > bytes.length) throw new UnreadableBytes('the compressed bytes end too early')
  return bytes
}

/** One block of Snappy, after others of `before` bytes. Source: google/snappy, format_description.txt. */
function snappyBlock(bytes: Buffer, limit: number, before = 0): Buffer {
  let at = 0
  const littleEndian = (size: number) => {
    const value = readable(bytes, at, size).readUIntLE(at, size)
    at += size
    return value
  }
  let claimed = 0
  for (let shift = 0, byte = 0x80; byte & 0x80; shift += 7) {
    if (shift > 28) throw new UnreadableBytes('snappy: the length has too many bytes')
    byte = littleEndian(1)
    claimed += (byte & 0x7f) * 2 ** shift
  }
  if (before + claimed > limit) throw tooLarge(limit)
  const output = new Output(claimed, claimed)
  while (at < bytes.length) {
    const tag = littleEndian(1)
    const upper = tag >> 2
    if ((tag & 3) === 0) {
      const length = (upper < 60 ? upper : littleEndian(upper - 59)) + 1
      output.literal(bytes, at, at + length)
      at += length
    } else if ((tag & 3) === 1) output.copy((tag >> 5) * 256 + littleEndian(1), (upper & 7) + 4)
    else output.copy(littleEndian((tag & 3) === 2 ? 2 : 4), upper + 1)
  }
  if (output.length !== claimed) throw new UnreadableBytes(`snappy: ${output.length} bytes instead of ${claimed}`)
  return output.taken()
}

const lz4Magic = 0x184d2204
const lz4Flags = {
  version: 0b1100_0000,
  blockChecksum: 0b1_0000,
  contentSize: 0b1000,
  contentChecksum: 0b100,
  dictionary: 1,
}
const uncompressedBlock = 0x8000_0000
const lz4MaxBlock = 4_194_304

/**
 * Frames of LZ4, block by block. Checksums are not looked at: Kafka's own guards the batch, and the one of the frame's
 * header was computed wrongly by its clients before 0.10. Source: lz4/lz4, lz4_Frame_format.md and lz4_Block_format.md.
 */
function lz4(bytes: Buffer, limit: number): Buffer {
  const output = new Output(bytes.length * 4, limit)
  let at = 0
  do {
    if (readable(bytes, at, 7).readUInt32LE(at) !== lz4Magic) throw new UnreadableBytes('lz4: not a frame')
    const flags = bytes.readUInt8(at + 4)
    if ((flags & lz4Flags.version) !== 0b0100_0000) throw new UnreadableBytes('lz4: a version that is not known')
    at += 7 + (flags & lz4Flags.contentSize ? 8 : 0) + (flags & lz4Flags.dictionary ? 4 : 0)
    for (;;) {
      const marked = readable(bytes, at, 4).readUInt32LE(at)
      at += 4
      if (marked === 0) break
      const size = marked % uncompressedBlock
      if (size > lz4MaxBlock) throw new UnreadableBytes('lz4: a block of more than 4 MiB')
      readable(bytes, at, size)
      if (marked >= uncompressedBlock) output.literal(bytes, at, at + size)
      else lz4Block(bytes.subarray(at, at + size), output)
      at += size + (flags & lz4Flags.blockChecksum ? 4 : 0)
    }
    if (flags & lz4Flags.contentChecksum) at += 4
  } while (at < bytes.length)
  return output.taken()
}

function lz4Block(bytes: Buffer, output: Output): void {
  let at = 0
  /** A length of 15 goes on in bytes of 255 until one is less. */
  const extended = (length: number) => {
    if (length < 15) return length
    let sum = length
    for (let byte = 255; byte === 255; sum += byte) byte = readable(bytes, at, 1).readUInt8(at++)
    return sum
  }
  while (at < bytes.length) {
    const token = bytes.readUInt8(at++)
    const literals = extended(token >> 4)
    output.literal(bytes, at, at + literals)
    at += literals
    if (at >= bytes.length) return // the last sequence has no copy
    const distance = readable(bytes, at, 2).readUInt16LE(at)
    at += 2
    output.copy(distance, extended(token & 15) + 4)
  }
}
