import { UnreadableBytes } from './compression.ts'

/** In bytes. */
const longestText = 200

/** Reads the parts of a record. Throws {@link UnreadableBytes} where there are fewer bytes than asked for. */
export class Reader {
  readonly #bytes: Buffer
  readonly #end: number
  #at: number

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    this.#bytes = bytes
    this.#end = end
    this.#at = at
  }

  get at(): number {
    return this.#at
  }

  bytes(length: number): Buffer {
    const start = this.#at
    this.skip(length)
    return this.#bytes.subarray(start, this.#at)
  }

  skip(length: number): void {
    if (length < 0 || length > this.left) throw new UnreadableBytes(`${length} bytes where ${this.left} are left`)
    this.#at += length
  }

  get left(): number {
    return this.#end - this.#at
  }

  /** From there on until the end. */
  since(start: number): Buffer {
    return this.#bytes.subarray(start, this.#end)
  }

  /** Of the next bytes, which are skipped here: a reader costs less than a view. */
  part(length: number): Reader {
    const start = this.#at
    this.skip(length)
    return new Reader(this.#bytes, start, this.#at)
  }

  /** Null where the length is -1. */
  sized(): Buffer | null {
    const length = this.#length()
    return length === -1 ? null : this.bytes(length)
  }

  /** The same; as text where that is the same bytes for sure and short: it takes half the time and memory of a view of them. */
  sizedText(): string | Buffer | null {
    const length = this.#length()
    if (length === -1) return null
    const start = this.#at
    if (length > longestText || length > this.left) return this.bytes(length)
    for (let at = start; at < start + length; at++) if ((this.#bytes[at] as number) > 0x7f) return this.bytes(length)
    this.#at += length
    return this.#bytes.toString('latin1', start, this.#at)
  }

  /** Text; `likely` if it is that, which is seen in a tenth of the time. Null where the length is -1. */
  name(likely: string | undefined): string | null {
    const length = this.#length()
    if (length === -1) return null
    const start = this.#at
    this.skip(length)
    if (likely?.length === length) {
      let same = 0
      while (same < length && this.#bytes[start + same] === likely.charCodeAt(same) && likely.charCodeAt(same) < 0x80)
        same++
      if (same === length) return likely
    }
    return this.#bytes.toString('utf8', start, this.#at)
  }

  #length(): number {
    const length = this.varint()
    if (length < -1) throw new UnreadableBytes(`a length of ${length}`)
    return length
  }

  /** 32 bits, zigzag. */
  varint(): number {
    let bits = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte()
      bits |= (byte & 0x7f) << shift
      if (byte < 0x80) return (bits >>> 1) ^ -(bits & 1)
    }
    throw new UnreadableBytes('a number of more than five bytes')
  }

  /** 64 bits, zigzag. */
  varlong(): bigint {
    const start = this.#at
    let low = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte()
      low |= (byte & 0x7f) << shift
      if (byte < 0x80) return BigInt((low >>> 1) ^ -(low & 1)) // most are short, and bigints take ten times as long
    }
    this.#at = start
    let bits = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte()
      bits |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, (bits >> 1n) ^ -(bits & 1n))
    }
    throw new UnreadableBytes('a number of more than ten bytes')
  }

  #byte(): number {
    if (this.#at >= this.#end) throw new UnreadableBytes('the bytes end within a number')
    const byte = this.#bytes[this.#at] as number
    this.#at += 1
    return byte
  }
}
