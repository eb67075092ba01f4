import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type EventName, type EventTypes, encode, decode as read, registry } from '@shopstream/events'
import type { LockEntry } from '@shopstream/events/codec'
import { parseSchema, type Schema } from '@shopstream/events/schema'
import { repository } from '@shopstream/testing'
import type { Say } from './measure.ts'

const rounds = 15
/** How long each contestant runs per round, in milliseconds. */
const sliceMs = 40

/** What only this benchmark needs; avsc and ajv are in the workspace already. */
const others = { avsc: '5.7.9', '@kafkajs/confluent-schema-registry': '4.1.0', ajv: '8.20.0', 'ajv-formats': '3.0.1' }

/** An event of each kind with the values of its golden bytes. */
interface Sample {
  row: LockEntry
  event: EventName
  schema: Schema
  data: EventTypes[EventName]
  /** The same as JSON has it. */
  json: unknown
}

/** Encodes and decodes sample number n. */
interface Contestant {
  name: string
  encode(n: number): unknown
  decode(n: number): unknown
  asynchronous?: boolean
  bytes: number[]
}

/** The codec beside others on the same events: in turns within rounds, so that what slows the machine slows all alike. */
export async function codec(say: Say) {
  const samples = readSamples()
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: repository, encoding: 'utf8' }).trim()
  say(`${samples.length} events by turns, ${rounds} rounds of ${sliceMs} ms each, commit ${commit}`)
  const registryServer = await serveSchemas()
  try {
    const contestants = [ours(samples), plain(samples), kafkajs(samples, registryServer.url), json(samples)]
    const figures: Record<string, unknown> = {}
    for (const action of ['encode', 'decode'] as const) {
      const speeds = await race(contestants, samples.length, action, say)
      figures[action] = compared(speeds, action, say)
    }
    const sizes = Object.fromEntries(contestants.map(({ name, bytes }) => [name, Math.round(mean(bytes))]))
    say(
      `bytes per message, mean: ${Object.entries(sizes)
        .map(([name, size]) => `${name} ${size}`)
        .join(', ')}`,
    )
    return { commit, ...figures, bytesPerMessage: sizes }
  } finally {
    registryServer.close()
  }
}

const mean = (figures: readonly number[]) => figures.reduce((sum, figure) => sum + figure, 0) / figures.length

function readSamples(): Sample[] {
  const folder = join(repository, 'schemas', 'golden')
  return readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => {
      const { hex } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as { hex: string }
      const { event, schemaId, data } = read(Buffer.from(hex, 'hex'))
      const row = registry.find(({ id }) => id === schemaId) as LockEntry
      return { row, event, schema: parseSchema(row.schema), data, json: jsonOf(data) }
    })
}

/** Longs as numbers where JSON can hold them, times in ISO 8601. */
const jsonOf = (data: unknown): unknown =>
  JSON.parse(JSON.stringify(data, (_, value) => (typeof value === 'bigint' ? Number(value) : value)))

/** What avsc without any option takes: longs and times as numbers, no logical types. */
function rawOf(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof Date) return value.getTime()
  if (Array.isArray(value)) return value.map(rawOf)
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, rawOf(part)]))
}

function ours(samples: readonly Sample[]): Contestant {
  const bytes = samples.map(({ event, data }) => encode(event, data as never))
  return {
    name: 'shopstream',
    encode: (n) => encode((samples[n] as Sample).event, (samples[n] as Sample).data as never),
    decode: (n) => read(bytes[n] as Buffer),
    bytes: bytes.map(({ length }) => length),
  }
}

/** avsc as it comes: no checks before or after, longs as doubles, times as numbers. Its bytes lack the header of 5. */
function plain(samples: readonly Sample[]): Contestant {
  const avsc = need('avsc')
  const types = samples.map(({ row }) => avsc.Type.forSchema(row.schema, { wrapUnions: 'never' }))
  const values = samples.map(({ data }) => rawOf(data))
  const bytes: Buffer[] = types.map((type: { toBuffer(value: unknown): Buffer }, n: number) => type.toBuffer(values[n]))
  return {
    name: 'avsc',
    encode: (n) => types[n].toBuffer(values[n]),
    decode: (n) => types[n].fromBuffer(bytes[n]),
    bytes: bytes.map(({ length }) => length),
  }
}

function kafkajs(samples: readonly Sample[], host: string): Contestant {
  const { SchemaRegistry } = need('@kafkajs/confluent-schema-registry')
  const client = new SchemaRegistry({ host })
  const values = samples.map(({ data }) => rawOf(data))
  const bytes = samples.map(({ event, data }) => encode(event, data as never))
  return {
    name: 'confluent-schema-registry',
    asynchronous: true,
    encode: (n) => client.encode((samples[n] as Sample).row.id, values[n]),
    decode: (n) => client.decode(bytes[n]),
    bytes: bytes.map(({ length }) => length),
  }
}

function json(samples: readonly Sample[]): Contestant {
  const { Ajv } = need('ajv')
  const ajv = new Ajv()
  need('ajv-formats').default(ajv)
  const checks = samples.map(({ schema }) => ajv.compile(jsonSchemaOf(schema)))
  const texts = samples.map((sample) => Buffer.from(JSON.stringify(sample.json)))
  const checked = (n: number, value: unknown) => {
    if (!checks[n](value)) throw new Error(`${samples[n]?.event}: ${ajv.errorsText(checks[n].errors)}`)
    return value
  }
  return {
    name: 'JSON with ajv',
    encode: (n) => Buffer.from(JSON.stringify(checked(n, samples[n]?.json))),
    decode: (n) => checked(n, JSON.parse((texts[n] as Buffer).toString())),
    bytes: texts.map(({ length }) => length),
  }
}

function jsonSchemaOf(schema: Schema): object {
  switch (schema.kind) {
    case 'record':
      return {
        type: 'object',
        properties: Object.fromEntries(schema.fields.map(({ name, type }) => [name, jsonSchemaOf(type)])),
        required: schema.fields.map(({ name }) => name),
        additionalProperties: false,
      }
    case 'array':
      return { type: 'array', items: jsonSchemaOf(schema.items) }
    case 'map':
      return { type: 'object', additionalProperties: jsonSchemaOf(schema.values) }
    case 'nullable':
      return { anyOf: [{ type: 'null' }, jsonSchemaOf(schema.of)] }
    case 'enum':
      return { enum: schema.symbols }
    case 'boolean':
      return { type: 'boolean' }
    case 'int':
    case 'long':
      return { type: 'integer' }
    case 'float':
    case 'double':
      return { type: 'number' }
    case 'uuid':
      return { type: 'string', format: 'uuid' }
    case 'timestamp-millis':
      return { type: 'string', format: 'date-time' }
    default:
      return { type: 'string' }
  }
}

/** A package that only this benchmark needs; the benchmark says how to get it. */
function need(name: keyof typeof others) {
  try {
    return createRequire(import.meta.url)(name)
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'MODULE_NOT_FOUND') throw cause
    const all = Object.entries(others).map(([other, version]) => `${other}@${version}`)
    throw new Error(`${name} is not installed; run: npm install --no-save ${all.join(' ')}`, { cause })
  }
}

/** As much of Confluent's API as its client asks for: schemas by id. */
async function serveSchemas() {
  const server = createServer((request, response) => {
    const row = registry.find(({ id }) => request.url === `/schemas/ids/${id}`)
    response.writeHead(row ? 200 : 404, { 'content-type': 'application/vnd.schemaregistry.v1+json' })
    response.end(JSON.stringify(row ? { schema: JSON.stringify(row.schema) } : { error_code: 40403 }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** Messages per second of each contestant, one figure per round; two rounds before warm up. */
async function race(contestants: readonly Contestant[], kinds: number, action: 'encode' | 'decode', say: Say) {
  const speeds = new Map(contestants.map(({ name }) => [name, [] as number[]]))
  for (let round = -2; round < rounds; round++) {
    // whoever goes first changes from round to round
    for (let turn = 0; turn < contestants.length; turn++) {
      const contestant = contestants[(turn + round + contestants.length) % contestants.length] as Contestant
      const speed = await run(contestant, kinds, action)
      if (round >= 0) speeds.get(contestant.name)?.push(speed)
    }
    if ((round + 1) % 5 === 0) say(`${action}: round ${round + 1} of ${rounds}`)
  }
  return speeds
}

async function run(contestant: Contestant, kinds: number, action: 'encode' | 'decode'): Promise<number> {
  const once = contestant[action]
  const begun = performance.now()
  let done = 0
  let passed = 0
  while (passed < sliceMs) {
    for (let times = 0; times < 20; times++) {
      if (contestant.asynchronous) for (let n = 0; n < kinds; n++) await once(n)
      else for (let n = 0; n < kinds; n++) once(n)
    }
    done += 20 * kinds
    passed = performance.now() - begun
  }
  return (done / passed) * 1_000
}

/** Lowest, middle and highest of some figures. */
function middle(figures: readonly number[]) {
  const sorted = figures.toSorted((one, other) => one - other)
  return { min: sorted[0] ?? 0, median: sorted[sorted.length >> 1] ?? 0, max: sorted.at(-1) ?? 0 }
}

/** Medians, and our speed as a share of the others' in the same round. */
function compared(speeds: Map<string, number[]>, action: string, say: Say) {
  const own = speeds.get('shopstream') ?? []
  return Object.fromEntries(
    [...speeds].map(([name, figures]) => {
      const perSecond = middle(figures)
      const ratio = middle(own.map((speed, round) => speed / (figures[round] as number)))
      const share = name === 'shopstream' ? '' : `; ours is ${inTimes(ratio)} of it`
      say(`${action} ${name}: ${inThousands(perSecond)} thousand messages a second${share}`)
      return [name, { perSecond, ratio }]
    }),
  )
}

const inThousands = ({ min, median, max }: ReturnType<typeof middle>) =>
  `${Math.round(median / 1_000)} (${Math.round(min / 1_000)} to ${Math.round(max / 1_000)})`

const inTimes = ({ min, median, max }: ReturnType<typeof middle>) =>
  `${median.toFixed(2)} (${min.toFixed(2)} to ${max.toFixed(2)})`
