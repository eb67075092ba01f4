import type { Forwarded } from '@shopstream/messaging/forwarding'
import type { Formed } from '../targets/target.ts'
import { attributesOf } from './cloudevents.ts'

/** A zero byte, the schema's id, Avro: as every client of the shop's topics reads it. */
export const asOnKafka = (one: Forwarded): Formed => ({
  contentType: 'application/avro',
  body: one.message.value as Buffer, // it has been read
  attributes: attributesOf(one),
})
