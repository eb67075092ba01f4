import type { Session } from '@shopstream/database'
import { eventIdOf, type IncomingMessage } from '@shopstream/messaging/operations'
import { shown } from '../../terminal/printing.ts'

/** Who wrote a record, where and when: by these its producer is found. */
export interface Writing {
  topic: string
  partition: number
  offset: bigint
  eventId: string | null
  /** What it says in `ce_source`, as anybody may have chosen it; null where it says nothing. */
  source: string | null
  /** By the clock of whoever wrote it. */
  writtenAt: Date | null
}

/**
 * Refers to records by key and sequence (without a sequence: a tombstone, which tells compaction to forget the key), by
 * the id of their event, or by their place.
 */
export interface RecordRef {
  topic?: string
  key?: string | null
  sequence?: bigint | null
  eventId?: string
  partition?: number
  offset?: bigint
}

/** All that is kept of a source, and shown. */
const sourceLength = 200

export const sourceOf = ({ ce_source }: IncomingMessage['headers']): string | null =>
  ce_source?.toString().slice(0, sourceLength).replaceAll('\0', '\ufffd').toWellFormed() ?? null

export const sequenceOf = (headers: IncomingMessage['headers']): string | null =>
  /^[1-9]\d{0,17}$/.exec(headers.ce_sequence?.toString() ?? '')?.[0] ?? null

export const writingOf = ({ topic, partition, offset, headers, timestamp }: IncomingMessage): Writing => ({
  topic,
  partition,
  offset,
  eventId: eventIdOf(headers) ?? null,
  source: sourceOf(headers),
  writtenAt: timestamp ?? null,
})

export function writingInWords({ topic, partition, offset, source, writtenAt }: Writing): string {
  const by = source === null ? 'without a ce_source' : source === '' ? 'with an empty ce_source' : `by ${shown(source)}`
  return `${topic}/${partition}@${offset} ${by}${writtenAt ? ` at ${writtenAt.toISOString()}` : ''}`
}

/** Of one event that are told; it may have been written any number of times. */
const toldWritings = 5

/** Finds records, with how many there are of each: one of each writer and event id first. */
export async function findWritings(session: Session, refs: readonly RecordRef[]) {
  const rows = await session.query<Omit<Writing, 'writtenAt'> & { n: number; records: number; written: bigint | null }>(
    `with wanted as (
       select * from unnest($1::integer[], $2::text[], $3::text[], $4::bigint[], $5::uuid[], $6::integer[], $7::bigint[])
         as w (n, topic, key, sequence, event_id, partition, "offset")),
     record as not materialized (
       select topic, partition, "offset", key, sequence, event_id, source, written from fact
       union all select topic, partition, "offset", key, null, null, source, written from tombstone),
     matched as (
       select w.n, r.* from wanted as w join record as r
         on r.topic = w.topic and coalesce(r.sequence, 0) = coalesce(w.sequence, 0)
         and coalesce(r.key, '') = coalesce(w.key, '') and (r.key is null) = (w.key is null)
       where w.event_id is null and w."offset" is null
       union all select w.n, r.* from wanted as w join record as r on r.event_id = w.event_id
       union all select w.n, r.* from wanted as w join record as r using (topic, partition, "offset")),
     copied as (
       select *, row_number() over (partition by n, event_id, source order by partition, "offset") as copy from matched),
     numbered as (
       select *, row_number() over (partition by n order by copy, partition, "offset") as place,
         count(*) over (partition by n)::integer as records
       from copied)
     select n, records, topic, partition, "offset", event_id as "eventId", source, written from numbered
     where place <= ${toldWritings} order by n, place`,
    [
      refs.map((_, n) => n),
      refs.map(({ topic }) => topic ?? null),
      refs.map(({ key }) => key ?? null),
      refs.map(({ sequence }) => sequence ?? null).map(asText),
      refs.map(({ eventId }) => eventId ?? null),
      refs.map(({ partition }) => partition ?? null),
      refs.map(({ offset }) => offset ?? null).map(asText),
    ],
  )
  const found = Map.groupBy(rows, ({ n }) => n)
  return refs.map((_, n) => {
    const ofRef = found.get(n) ?? []
    const told = ofRef.map(({ n: _, records: __, written, ...writing }): Writing => {
      return { ...writing, writtenAt: written === null ? null : new Date(Number(written)) }
    })
    return { told, records: ofRef[0]?.records ?? 0 }
  })
}

const asText = (value: bigint | null) => (value === null ? null : String(value))

export type Writings = Awaited<ReturnType<typeof findWritings>>[number]

/** Behind what was found about them; their ids where there are several. */
export function writtenInWords(all: readonly Writings[]): string {
  const told = all.flatMap(({ told }) => told)
  if (told.length === 0) return ''
  const several = new Set(told.map(({ eventId }) => eventId)).size > 1
  const words = told.map((one) => `${several ? `${one.eventId ?? 'no event id'} as ` : ''}${writingInWords(one)}`)
  const more = all.reduce((sum, { records }) => sum + records, 0) - told.length
  return `; written: ${[...words, ...(more > 0 ? [`${more} more`] : [])].join(', ')}`
}
