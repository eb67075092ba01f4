import type { Transaction } from '@shopstream/database'
import type { CatchUp } from '@shopstream/messaging'
import type { Order } from '../life-cycle.ts'
import { insertOrders, lockOrders, updateOrders } from '../orders.ts'
import type { Tables } from '../tables.ts'
import { evolve, type OrderMessage } from './evolve.ts'

/** Adopts what this service has published of its orders and its restored tables do not know. */
export function catchUp(): CatchUp {
  const rebuilt: string[] = []
  const unknown = new Set<string>()
  return {
    topics: [
      {
        topic: 'shop.order.v1',
        async adopt(tx: Transaction<Tables>, messages) {
          const before = await lockOrders(
            tx,
            messages.map(({ key }) => key),
          )
          const after = new Map<string, Order>(before)
          for (const message of messages as OrderMessage[]) {
            const order = evolve(after.get(message.key), message)
            if (order) after.set(message.key, order)
            else unknown.add(message.key)
          }
          const changed = [...after.values()].filter((order) => order.sequence !== before.get(order.id)?.sequence)
          const added = changed.filter(({ id }) => !before.has(id))
          await insertOrders(tx, added)
          await updateOrders(tx, changed) // the added too: their reason and shipment
          rebuilt.push(...added.map(({ id }) => id))
          return changed.length
        },
      },
    ],
    async settle() {
      return [
        ...(rebuilt.length > 0
          ? [`the shipping addresses of orders that were placed since: ${rebuilt.join(', ')}`]
          : []),
        ...(unknown.size > 0 ? [`orders whose OrderPlaced is not kept any more: ${[...unknown].join(', ')}`] : []),
      ]
    },
  }
}
