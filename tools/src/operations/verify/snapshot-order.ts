import type { ServiceWiring } from '@shopstream/testing/wiring'
import { type Owner, owners } from '../services.ts'

/** Orders and reservations know of each other: a reservation's order was there before it, so inventory is looked at first. */
const known: readonly Owner[] = ['notification', 'inventory', 'order', 'user']

/**
 * The order in which databases are read. Downstream first: what one of these knows of another, that other has known
 * before. An unknown service comes after the last service that consumes one of its events, else first.
 */
export function snapshotOrder(wiring: readonly ServiceWiring[]): Owner[] {
  const order = [...known]
  for (const owner of owners.filter((one) => !known.includes(one))) {
    const own = new Set(wiring.find(({ service }) => service === owner)?.produces)
    const readers = wiring.filter(({ consumes }) => consumes.some(({ event }) => own.has(event)))
    const last = Math.max(-1, ...readers.map(({ service }) => order.indexOf(service as Owner)))
    order.splice(last + 1, 0, owner)
  }
  return order
}
