import { type EventName, topics } from '@shopstream/events'

/** Of no use outside, and what is signed is not to be believed by others. */
const inside = ['shop.signing-key.v1', 'shop.schema.v1']

/** Every event that a bridge may hand on; which of them it does is in its row of the table. */
export const forwards: readonly EventName[] = topics
  .filter(({ name }) => !inside.includes(name))
  .flatMap(({ events }) => events)
