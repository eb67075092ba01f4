import { decode, type EventName, type EventTypes } from '@shopstream/events'
import { shortName } from '@shopstream/events/schema'
import type { NewEvent } from '@shopstream/messaging'
import { readGolden } from '../golden.ts'

/**
 * An event as another service would write it: the payload of its golden bytes, with these fields instead. A field that
 * is added to the schema is in it, so a test that only passes the event on need not change. Throws when the event has
 * no golden bytes.
 */
export function exampleEvent<N extends EventName>(
  type: N,
  key: string,
  data: Partial<EventTypes[N]> = {},
  sequence = 1n,
): NewEvent<N> {
  const newest = readGolden().findLast(({ subject }) => shortName(subject) === type)
  if (!newest) throw new Error(`${type} has no golden bytes: run \`npm run schemas -- register\``)
  const { data: example } = decode(Buffer.from(newest.hex, 'hex'))
  return { type, key, sequence, data: { ...(example as EventTypes[N]), ...data } }
}
