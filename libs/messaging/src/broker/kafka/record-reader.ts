import { UnreadableBytes } from './compression.ts'

/** Reads the parts of a record. Throws {@link UnreadableBytes} where there are fewer bytes than asked for. */
export class Reader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes
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
    if (length < 0 || this.#at + length > this.#bytes.length)
      throw new UnreadableBytes(`${length} bytes where ${this.rest().length} are left`)
    this.#at += length
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#at)
  }

  /** Null where the length is -1. */
  sized(): Buffer | null {
    const length = this.varint()
    if (length < -1) throw new UnreadableBytes(`a length of ${length}`)
    return length === -1 ? null : this.bytes(length)
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
    let bits = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte()
      bits |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, (bits >> 1n) ^ -(bits & 1n))
    }
    throw new UnreadableBytes('a number of more than ten bytes')
  }

  #byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw new UnreadableBytes('the bytes end within a number')
    this.#at += 1
    return byte
  }
}
