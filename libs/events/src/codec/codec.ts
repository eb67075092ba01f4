import type { EventTypes } from '../generated/events.ts'
import { readJson } from '../schema/json.ts'
import type { LockEntry } from '../schema/lock-entry.ts'
import { normalise, parseSchema, type RecordSchema, shortName } from '../schema/schema.ts'
import { type AvroType, compile } from './avsc.ts'
import { type Read, readingOf } from './reading.ts'
import { type Misfit, misfitOf, type Take, takeOf } from './strict.ts'

export type { LockEntry }

/** A value that does not fit its event. The message never tells the value itself, which may be personal data. */
export class EncodeError extends Error {
  readonly event: string
  /** Where in the value, such as `lines[2].quantity`; empty for the value as a whole. */
  readonly path: string

  constructor(event: string, path: string, problem: string, cause?: unknown) {
    super(`${event}${path && '.'}${path} ${problem}`, { cause })
    this.name = 'EncodeError'
    this.event = event
    this.path = path
  }
}

/**
 * Bytes that cannot be read. `malformed`: no reader ever will. `unknown-schema`: the writer's schema is not known
 * here, or newer than this build can read; it may be readable later.
 */
export class DecodeError extends Error {
  readonly reason: 'malformed' | 'unknown-schema'
  /** The id the bytes name, when they are long enough to name one. */
  readonly schemaId?: number

  constructor(reason: DecodeError['reason'], problem: string, schemaId?: number, cause?: unknown) {
    super(problem, { cause })
    this.name = 'DecodeError'
    this.reason = reason
    if (schemaId !== undefined) this.schemaId = schemaId
  }
}

/** An event as it was read: `event` tells which type `data` has. */
export type Decoded<E = EventTypes> = { [N in keyof E & string]: { event: N; schemaId: number; data: E[N] } }[keyof E &
  string]

export interface Codec<E = EventTypes> {
  /**
   * The bytes of an event in Confluent's wire format: byte 0, the schema's id in 4 bytes, Avro binary. Written with the
   * newest schema of the event. Throws {@link EncodeError} when `data` is not exactly what that schema says.
   */
  encode<N extends keyof E & string>(event: N, data: E[N]): Buffer
  /**
   * Reads what {@link Codec.encode} wrote, here or in another version or language: the writer's schema is found by its
   * id and resolved to this codec's newest of the same event. Throws {@link DecodeError}. Takes time and memory in
   * proportion to the length of `bytes`, whatever they are.
   */
  decode(bytes: Uint8Array): Decoded<E>
  /**
   * Takes in a writer's schema that is not in the lock. It is used for reading only. Learning a schema again does
   * nothing; throws when the id belongs to another schema, and `SchemaError` or what avsc throws when it is refused.
   */
  learn(schema: { schemaId: number; subject: string; schema: string }): void
}

/** The longest message that is read or written, in bytes. */
export const maxMessageBytes = 1024 * 1024

const headerBytes = 5
/** Registries count in signed numbers of 32 bits. */
const maxSchemaId = 2 ** 31 - 1

interface Reader {
  readonly id: number
  readonly event: string
  readonly schema: RecordSchema
  readonly type: AvroType
  readonly take: Take
}

interface Writer {
  readonly subject: string
  readonly text: string
  readonly schema: RecordSchema
  readonly type: AvroType
  /** Reads it as the newest schema of its subject; made when it is first needed, and again until it can be made. */
  read?: Read
}

/**
 * Builds a codec from the rows of a lock; the newest version of each subject is what it writes and reads into.
 * Throws `SchemaError`, or what avsc throws, when a schema of the lock is refused.
 */
export function createCodec<E = EventTypes>(lock: readonly LockEntry[]): Codec<E> {
  const writers = new Map<number, Writer>()
  const readers = new Map<string, Reader>()
  for (const { id, subject, schema } of lock.toSorted((one, other) => one.version - other.version)) {
    const parsed = parseSchema(schema)
    const writer = writerOf(subject, parsed)
    writers.set(id, writer)
    readers.set(subject, { id, event: shortName(subject), schema: parsed, type: writer.type, take: takeOf(parsed) })
  }
  const readersByEvent = new Map([...readers.values()].map((reader) => [reader.event, reader]))

  return {
    encode(event, data) {
      const reader = readersByEvent.get(event)
      if (!reader) throw new EncodeError(event, '', 'is no event of the registry')
      return write(reader, data)
    },

    decode(bytes) {
      const { buffer, schemaId } = open(bytes)
      const writer = writers.get(schemaId)
      const reader = writer && readers.get(writer.subject)
      if (!reader) throw new DecodeError('unknown-schema', `schema ${schemaId} is not known here`, schemaId)
      return { event: reader.event, schemaId, data: read(buffer, schemaId, writer, reader) } as Decoded<E>
    },

    learn({ schemaId, subject, schema }) {
      const parsed = parseSchema(readJson(schema))
      const writer = writerOf(subject, parsed)
      const known = writers.get(schemaId)
      if (known && (known.subject !== subject || known.text !== writer.text)) {
        throw new Error(`schema ${schemaId} is already ${known.subject}, and not the same`)
      }
      if (!known) writers.set(schemaId, writer)
    },
  }
}

function writerOf(subject: string, schema: RecordSchema): Writer {
  if (schema.name !== subject) throw new Error(`the schema of ${subject} is named ${schema.name}`)
  return { subject, text: JSON.stringify(normalise(schema)), schema, type: compile(schema) }
}

/** Where messages are written before they are copied out: one allocation per message, of its exact size. */
let scratch = Buffer.alloc(8 * 1024)

function write({ id, event, schema, type, take }: Reader, data: unknown): Buffer {
  let length: number
  try {
    length = writeTo(type, take(data))
  } catch {
    // no cause: messages of avsc, and of accessors, tell values
    const { path, problem } = misfitIn(schema, data) ?? { path: '', problem: 'cannot be written' }
    throw new EncodeError(event, path, problem)
  }
  if (length > maxMessageBytes) throw new EncodeError(event, '', `takes ${length} bytes, more than ${maxMessageBytes}`)
  const bytes = Buffer.allocUnsafe(length)
  scratch.copy(bytes, 0, 0, length)
  bytes[0] = 0
  bytes.writeUInt32BE(id, 1)
  return bytes
}

/** Looking for it reads the value once more, and its accessors may throw. */
function misfitIn(schema: RecordSchema, data: unknown): Misfit | undefined {
  try {
    return misfitOf(schema, data)
  } catch {
    return undefined
  }
}

/** Leaves the message in `scratch` and returns its length with the header. */
function writeTo(type: AvroType, data: unknown): number {
  const end = type.encode(data, scratch, headerBytes)
  if (end >= 0) return end
  const length = scratch.length - end // what avsc returns is the number of bytes that were lacking
  if (length > maxMessageBytes) return length
  scratch = Buffer.alloc(Math.min(maxMessageBytes, length * 2))
  return type.encode(data, scratch, headerBytes)
}

/** Takes the envelope of the wire format apart. */
function open(bytes: Uint8Array): { buffer: Buffer; schemaId: number } {
  const { length } = bytes
  if (length > maxMessageBytes) throw new DecodeError('malformed', `${length} bytes, more than ${maxMessageBytes}`)
  if (length < headerBytes) throw new DecodeError('malformed', `${length} bytes are too few for an event`)
  if (bytes[0] !== 0) throw new DecodeError('malformed', `starts with byte ${bytes[0]}, not 0`)
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, length)
  const schemaId = buffer.readUInt32BE(1)
  if (schemaId > maxSchemaId) throw new DecodeError('malformed', `schema ${schemaId} is none that a registry gives`)
  return { buffer, schemaId }
}

function read(bytes: Buffer, schemaId: number, writer: Writer, reader: Reader): unknown {
  writer.read ??= readOf(schemaId, writer, reader)
  try {
    return writer.read(bytes, headerBytes)
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause)
    throw new DecodeError('malformed', `${reader.event} by schema ${schemaId}: ${problem}`, schemaId, cause)
  }
}

function readOf(schemaId: number, writer: Writer, reader: Reader): Read {
  try {
    return readingOf(writer.schema, reader.schema)
  } catch (cause) {
    throw new DecodeError(
      'unknown-schema',
      `schema ${schemaId} of ${reader.event} cannot be read here`,
      schemaId,
      cause,
    )
  }
}
