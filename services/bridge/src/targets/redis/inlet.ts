import { type Inlet, inHandBytes, maxHeaderBytes, type Place, type Received } from '../target.ts'
import { keepOpen, type Open } from './connection.ts'
import { type inOptions, usualGroup } from './options.ts'
import { createPace } from './pace.ts'
import { readSome } from './scripts.ts'

const usual = { group: usualGroup, count: 100, claimAfterSeconds: 60 }
/** For so long a read waits for something new, in ms: no stop waits longer. */
const blockMs = 1_000

/** An entry with its fields; without where it was deleted. */
type Read = [id: Buffer, fields: Buffer[] | null]
/** By stream; null: nothing new. */
type Answer = [Buffer, Read[]][] | null

/**
 * Reads a stream for a group. What was read and not acknowledged comes again, before what is new: one instance at a time reads,
 * under the bridge's name, so that the next one finds what the last one held.
 */
export function openInlet(place: Place<typeof inOptions>): Inlet {
  const { bridge: reader, logger } = place
  const { stream, group, count, claimAfterSeconds } = { ...usual, ...place.options }
  const connection = keepOpen(place)
  const claimMs = 1_000 * claimAfterSeconds

  const pace = createPace(inHandBytes)
  let mayScript = true

  /** Of what is new (`>`), or of what this reader holds; as much as may be in hand. */
  async function read(open: Open, from: '>' | '0'): Promise<Read[]> {
    if (mayScript) {
      const args = [group, reader, from, String(count), String(pace.bytes())]
      const reading = open.run<Read[]>(readSome, stream, args, { buffers: true })
      const found = await pace.keep(open, reading).catch((error: Error) => {
        if (!/NOPERM/.test(error.message)) throw error
        logger.warn('the user of Redis may not run scripts, so entries are read one at a time; allow eval and evalsha')
        mayScript = false
        return []
      })
      if (found.length > 0) return found
    }
    const block = from === '>' ? ['BLOCK', String(blockMs)] : []
    const args = ['XREADGROUP', 'GROUP', group, reader, 'COUNT', '1', ...block, 'STREAMS', stream, from]
    const answer = await open.ask<Answer>(args, { buffers: true })
    return answer?.[0]?.[1] ?? []
  }

  async function handOn(open: Open, entries: readonly Read[], take: Take): Promise<void> {
    if (entries.length === 0) return
    const gone = entries.filter(([, fields]) => fields === null).map(([id]) => id.toString())
    if (gone.length > 0) logger.warn({ stream, group, ids: gone }, 'entries were deleted before they were taken')
    const there = entries.flatMap(([, fields]) => (fields ? toReceived(fields) : []))
    if (there.length > 0) await take(there)
    await open.ask(['XACK', stream, group, ...entries.map(([id]) => id)])
  }

  /** Takes over what readers have held for too long, and hands on all that this one holds, in the order of ids. */
  async function takeHeld(open: Open, take: Take, stop: AbortSignal): Promise<void> {
    for (let cursor = '0-0'; ; ) {
      const claim = ['XAUTOCLAIM', stream, group, reader, String(claimMs), cursor, 'COUNT', String(count), 'JUSTID']
      const [next, , gone = []] = await open.ask<[string, string[], string[]?]>(claim)
      if (gone.length > 0) logger.warn({ stream, group, ids: gone }, 'entries were deleted before they were taken')
      cursor = next
      if (cursor === '0-0') break
    }
    while (!stop.aborted) {
      const entries = await read(open, '0')
      if (entries.length === 0) return
      await handOn(open, entries, take)
    }
  }

  return {
    async receive(take, stop) {
      const open = await connection.get()
      await makeGroup(open, stream, group)
      await take([])
      let claimedAt = Number.NEGATIVE_INFINITY
      while (!stop.aborted) {
        if (performance.now() >= claimedAt + claimMs / 2) {
          await takeHeld(open, take, stop)
          claimedAt = performance.now()
        } else {
          await handOn(open, await read(open, '>'), take)
        }
      }
    },
    close: connection.close,
  }
}

type Take = (messages: readonly Received[]) => Promise<void>

/** From the first entry on: what came before the bridge is taken as well. */
async function makeGroup(open: Open, stream: string, group: string): Promise<void> {
  await open.ask(['XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM']).catch(async (error: Error) => {
    if (/BUSYGROUP/.test(error.message)) return
    // Where memory is full, or this user may make none, one that is there will do.
    const groups = await open.ask<[name: string, of: string][]>(['XINFO', 'GROUPS', stream]).catch(() => [])
    if (!groups.some(([, name]) => name === group)) throw error
  })
}

/** What is longer is not read in any case, and as a text it may take several times its bytes. */
const textOf = (bytes: Buffer) => bytes.subarray(0, maxHeaderBytes + 1).toString()

const withoutBody =
  'it has neither the field cloudevent, with a CloudEvent in JSON, nor data, with the attributes in fields beside it'

/** Structured in the field `cloudevent`; else the data in `data`, and attributes beside it. */
function toReceived(texts: readonly Buffer[]): Received {
  const fields = new Map<string, Buffer>()
  const names = texts.filter((_, i) => i % 2 === 0)
  for (const [i, name] of names.entries()) fields.set(textOf(name), texts[2 * i + 1] as Buffer)
  const whole = fields.get('cloudevent')
  if (whole) return { body: whole, contentType: 'application/cloudevents+json', headers: {} }
  const { data = Buffer.alloc(0), ...attributes } = Object.fromEntries(fields)
  return {
    body: data,
    ...(!fields.has('data') && { unfit: withoutBody }),
    contentType: textOf(attributes.datacontenttype ?? Buffer.alloc(0)),
    headers: Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce-${name}`, textOf(value)])),
  }
}
