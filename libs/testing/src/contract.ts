import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { type EventName, encode, newEventId, registry, topicOf } from '@shopstream/events'
import { type Codec, createCodec, type LockEntry } from '@shopstream/events/codec'
import { eventually, repository } from '@shopstream/local-servers'
import type { Consumption, Producer } from '@shopstream/messaging'
import { type OutgoingMessage, readMessage } from '@shopstream/messaging/operations'
import { type BundledVersion, startBundledVersion } from './contract/bundled-version.ts'
import { fieldProblems, readEventSchemas, versionProblems, watchedFiles } from './contract/event-schemas.ts'
import { buildsWith, defaultsOfTomorrow, exampleOf, pairsOf } from './contract/versions.ts'
import { partiesOf, readWiring } from './wiring.ts'
import { createWorld, type World } from './world.ts'

export { exampleEvent } from './contract/example-event.ts'

/** The tables of a service, and how it is brought to write all its events. */
export interface Contract {
  consumes: readonly Consumption[]
  produces: Pick<Producer, 'service' | 'events'>
  /**
   * Starts the service in this world and makes it, by requests and by others' events, write each event of `produces` at
   * least once; the events need not be there when it returns. What stops the service is given to `atEnd`.
   */
  drive(world: World, atEnd: (stop: () => Promise<unknown>) => void): Promise<void>
}

type Data = Record<string, unknown>
type AnyCodec = Codec<Record<string, Data>>

/**
 * The tests of a service's `contract.test.ts`: that its consumers read whatever their topics can hold, that what it
 * writes is read by every build that may still be deployed, and that it gets on with the build before and after it.
 * Each failure names the service and the event.
 */
export function testContract({ consumes, produces, drive }: Contract): void {
  const { service } = produces
  testWatching(service, [...produces.events, ...consumes.flatMap(({ events }) => events)])
  const used = consumes.flatMap(({ events, uses }) => events.map((event) => [event, uses[event] ?? []] as const))
  if (used.length > 0)
    describe.each(used)(`${service} consumes %s`, (event, fields) => testConsumer(service, event, fields))
  testProducer(service, produces.events, drive)
  testNeighbours(service, new Map([...produces.events.map((event) => [event, [] as string[]] as const), ...used]))
}

/** Without this `nx affected -t contract` would pass the service over when one of its events changes. */
function testWatching(service: string, events: readonly EventName[]): void {
  test(`${service} is affected by a change of each of its events, and of no other`, () => {
    const file = `services/${service}/package.json`
    const { nx } = JSON.parse(readFileSync(join(repository, file), 'utf8'))
    const watched = new Set(events.map((event) => watchedFiles(readEventSchemas(event, registry))))
    // when this fails: put the expected list into the file
    expect({ [file]: nx?.namedInputs?.contracts }).toEqual({ [file]: [...watched].toSorted() })
  })
}

function testConsumer(service: string, event: EventName, fields: readonly string[]): void {
  const schemas = readEventSchemas(event, registry)

  test('the fields that it uses are declared', () => {
    expect(fieldProblems(service, fields, schemas)).toEqual([])
  })

  test('the schema as it is now fits every version', async () => {
    expect(await versionProblems(service, 'consumes', schemas, () => readParties(event))).toEqual([])
  })

  test('each version that its topic can hold decodes into what the handler gets', () => {
    expect(schemas.golden.map(({ version }) => version)).toEqual(schemas.rows.map(({ version }) => version))
    for (const { hex, version } of schemas.golden) {
      const { type, data } = naming(`${service} consumes ${event}, and cannot read version ${version}`, () =>
        received(event, Buffer.from(hex, 'hex')),
      )
      expect(type).toBe(event)
      expect(Object.keys(data)).toEqual(expect.arrayContaining([...fields]))
      // refuses what is not exactly what the types of today's code promise
      naming(`${service} consumes ${event}, and gets of version ${version} what its types exclude`, () =>
        encode(event, data as never),
      )
    }
  })
}

/** From the tables of all services, which are not this one's to import when all is well. */
const readParties = async (event: EventName) => ({
  topic: topicOf(event).name,
  ...partiesOf(await readWiring(repository), event),
})

/** A message as the runner gives it to a handler. */
function received(event: EventName, value: Buffer) {
  const headers = { ce_id: newEventId(), ce_type: event, ce_time: new Date().toISOString(), ce_sequence: '1' }
  return readMessage({ topic: topicOf(event).name, partition: 0, offset: 0n, key: 'key', value, headers })
}

function testProducer(service: string, events: readonly EventName[], drive: Contract['drive']): void {
  if (events.length === 0) return
  test.each(events)(`${service} produces %s by a schema that fits every version`, async (event) => {
    const schemas = readEventSchemas(event, registry)
    expect(await versionProblems(service, 'produces', schemas, () => readParties(event))).toEqual([])
  })

  describe(`${service} really writes`, () => {
    const written: { event: string; bytes: Buffer }[] = []
    const undo: (() => Promise<unknown>)[] = []

    beforeAll(async () => {
      const world = await createWorld(service)
      undo.push(() => world.close())
      const collector = world.bus.consume({
        group: 'contract',
        topics: [...new Set(events.map((event) => topicOf(event).name))],
        async handle(batch, partition) {
          written.push(...batch.messages.flatMap((message) => writtenBy(service, message)))
          partition.done(batch.next)
        },
      })
      undo.push(() => collector.close())
      await drive(world, (stop) => undo.push(stop))
    })
    afterAll(async () => {
      for (const step of undo.splice(0).reverse()) await step()
    })

    test.each(events)('%s, which every build that may still be deployed reads', async (event) => {
      const messages = await eventually(`${service} to write ${event}, as its produces.ts declares`, () => {
        const found = written.filter((message) => message.event === event)
        return found.length > 0 && found
      })
      for (const { version, lock, later } of buildsWith(event, registry)) {
        const reader = createCodec(lock) as unknown as AnyCodec
        for (const row of later) reader.learn(asLearnt(row))
        for (const { bytes } of messages || []) {
          naming(`${service} wrote ${event}, and who has version ${version} of it cannot read it`, () => {
            const { event: read, data } = reader.decode(bytes)
            expect(read).toBe(event)
            reader.encode(event, data) // refuses what is not exactly an event of that version
          })
        }
      }
    })
  })
}

/** The message as event and bytes, when `service` has written it. */
function writtenBy(service: string, { headers, value }: Pick<OutgoingMessage, 'headers' | 'value'>) {
  const isOwn = String(headers.ce_source) === `/shopstream/${service}`
  return isOwn && value ? [{ event: String(headers.ce_type), bytes: value }] : []
}

const asLearnt = ({ id, subject, version, schema }: LockEntry) => ({
  schemaId: id,
  subject,
  version,
  schema: JSON.stringify(schema),
})

/** The matrix of N and N-1: each writes, the other reads; N-1 is a process with a bundle of its own. */
function testNeighbours(service: string, events: ReadonlyMap<EventName, readonly string[]>): void {
  const versions = new Map<readonly LockEntry[], Promise<BundledVersion>>()
  const versionWith = (lock: readonly LockEntry[]) => {
    const version = versions.get(lock) ?? startBundledVersion(lock)
    versions.set(lock, version)
    return version
  }
  afterAll(async () => {
    for (const started of await Promise.allSettled(versions.values())) {
      if (started.status === 'fulfilled') await started.value.close() // why another has not started, its tests have told
    }
  })

  describe.each([...events])(`${service} exchanges %s between`, (event, fields) => {
    const schemas = readEventSchemas(event, registry)
    const dataOf = (read: { event: string; data: Data }) => {
      expect(read.event).toBe(event)
      return read.data
    }

    test.each(pairsOf(schemas, registry).map((pair) => [pair.name, pair] as const))('%s', async (_name, pair) => {
      const { rows, isTomorrow } = pair
      const previous = await versionWith(pair.previous)
      const current = createCodec(pair.current) as unknown as AnyCodec

      const byCurrent = current.encode(event, exampleOf(rows.current, schemas))
      await expect(previous.decode(byCurrent)).rejects.toMatchObject({ reason: 'unknown-schema' })
      for (const row of pair.current.slice(pair.previous.length)) {
        await previous.learn(current.encode('SchemaRegistered', asLearnt(row)))
      }
      const readByPrevious = dataOf(await previous.decode(byCurrent))
      await previous.encode(event, readByPrevious) // refuses what is not exactly an event of that version

      const byPrevious = await previous.encode(event, exampleOf(rows.previous, schemas))
      const readByCurrent = dataOf(current.decode(byPrevious))
      expect(Object.keys(readByCurrent)).toEqual(expect.arrayContaining([...fields]))
      current.encode(event, readByCurrent)

      if (!isTomorrow) return
      expect(readByPrevious).toEqual(exampleOf(rows.previous, schemas))
      expect(readByCurrent).toEqual({ ...exampleOf(rows.previous, schemas), ...defaultsOfTomorrow })
    })
  })
}

/** The result of `work`; what it throws is told as what happened to `what`. */
function naming<T>(what: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
  }
}
