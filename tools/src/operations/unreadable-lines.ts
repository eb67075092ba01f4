import { age, bad, faint, good, plural, secondsSince, shop, strong, table } from '../terminal/format.ts'
import { printable, shown } from '../terminal/printing.ts'
import { hexLines } from './dead-letter-lines.ts'
import { decisionInWords, type Met, placeInWords, type Stretch } from './unreadable-stretches.ts'

/** How `unreadable` puts things. */

const stateInWords = (one: Met, now: Date): string =>
  ({
    stands: 'stands',
    'not met': `not met for ${age(secondsSince(one.lastMetAt, now))}`,
    'stepped over': 'stepped over',
    passed: 'read after all',
    forgotten: 'the topic has forgotten it',
  })[one.state]

export function listLines(stretches: readonly Stretch[], now = new Date()): string[] {
  const [first] = stretches
  if (!first) return ['None.']
  const rows = stretches.flatMap((stretch) =>
    stretch.met.map((one) => [
      one.ref,
      placeInWords(stretch),
      String(one.size),
      age(secondsSince(one.metAt, now)),
      decisionInWords(one, now) ?? stateInWords(one, now),
      shown(one.reason, 100),
    ]),
  )
  return [
    ...table([['ID', 'PLACE', 'BYTES', 'MET', 'STATE', 'WHY'], ...rows]),
    faint(`  → ${shop(`unreadable show ${placeInWords(first)}`)}`),
  ]
}

/** With `savedTo`, the file that has the bytes, instead of the first of them. */
export function detailLines(
  stretch: Stretch,
  bytes: Buffer,
  { savedTo, now = new Date() }: { savedTo?: string | undefined; now?: Date } = {},
): string[] {
  const stands = stretch.met.some(({ steppedOverAt }) => steppedOverAt === null)
  return [
    strong(placeInWords(stretch)),
    `  ${bad(`cannot be read: ${shown(stretch.reason)}`)}`,
    ...headLines(bytes),
    strong('Groups'),
    ...stretch.met.map((one) => {
      const told = decisionInWords(one, now) ?? bad(stateInWords(one, now))
      return `  ${one.service.padEnd(14)}met ${age(secondsSince(one.metAt, now))} ago, ${told}`
    }),
    ...(savedTo === undefined
      ? [strong('Bytes, as they came'), ...hexLines(bytes)]
      : [good(`${plural(bytes.length, 'byte')} written to ${savedTo}`)]),
    ...(stands
      ? [
          ...(savedTo === undefined
            ? [
                faint(
                  `  → all of them, to look at elsewhere: ${shop(`unreadable show ${placeInWords(stretch)} --out FILE`)}`,
                ),
              ]
            : []),
          faint(`  → to go on without it: ${shop(`unreadable step-over ${placeInWords(stretch)} --reason '...'`)}`),
          faint('  → docs/runbooks/unreadable-records.md'),
        ]
      : [good('  Nobody waits for it any more.')]),
  ]
}

const codecs = ['not compressed', 'gzip', 'snappy', 'lz4', 'zstd']
const headBytes = 61

/** What the head of a record batch says: of its writer as well. Source: Kafka's message format, v2. */
function headLines(bytes: Buffer): string[] {
  if (bytes.length < headBytes || bytes.readInt8(16) !== 2) return []
  const attributes = bytes.readInt16BE(21)
  const written = new Date(Number(bytes.readBigInt64BE(35)))
  const producer = bytes.readBigInt64BE(43)
  const facts = [
    plural(bytes.readInt32BE(57), 'record'),
    codecs[attributes & 0b111] ?? `codec ${attributes & 0b111}`,
    plural(bytes.length, 'byte'),
    `written ${Number.isNaN(written.getTime()) ? '?' : written.toISOString()}`,
    producer < 0n ? 'by a producer without an id' : `by producer ${producer}`,
    ...(attributes & 0b1_0000 ? ['in a transaction'] : []),
  ]
  return [`  ${printable(facts.join(', '))}`]
}
