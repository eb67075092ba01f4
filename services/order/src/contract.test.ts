import { type EventName, newEventId } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { exampleEvent, testContract } from '@shopstream/testing/contract'
import { buildOrder } from './app.ts'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'

const shippingAddress = { name: 'Zoë', line1: '1 Main Street', city: 'Zürich', postalCode: '8001', country: 'CH' }

testContract({
  consumes,
  produces,
  async drive(world, atEnd) {
    await world.publishSigningKey()
    await world.publish(exampleEvent('ProductListed', 'mug', { sku: 'mug' }))
    const orders = await buildOrder({ ...world.settings, RESERVATION_DEADLINE_SECONDS: 900 }, world.logger)
    atEnd(() => orders.stop())
    await orders.start()
    const authorization = `Bearer ${await world.token({ id: newEventId(), roles: ['customer', 'staff'] })}`
    const post = async (url: string, payload: object = {}) => {
      const { statusCode, body } = await orders.http.inject({
        method: 'POST',
        url,
        headers: { authorization },
        payload,
      })
      if (statusCode >= 300) throw new Error(`POST ${url} is answered with ${statusCode}: ${body}`)
      return JSON.parse(body)
    }
    const hasWritten = (type: EventName, id: string) =>
      eventually(`${type} of ${id}`, () => world.events(type).some(({ key }) => key === id))
    const place = async (): Promise<string> => {
      const { id } = await post('/v1/orders', { items: [{ sku: 'mug', quantity: 1 }], shippingAddress })
      await hasWritten('OrderPlaced', id)
      return id
    }
    await eventually('readiness', async () => (await orders.http.inject('/readyz')).statusCode === 200)

    const [served, short, cancelled] = [await place(), await place(), await place()]
    await world.publish(
      exampleEvent('StockReserved', served, { orderId: served }),
      exampleEvent('StockRejected', short, { orderId: short }),
    )
    await post(`/v1/orders/${cancelled}/cancel`)
    await hasWritten('OrderConfirmed', served)
    await post(`/v1/orders/${served}/shipment`, { carrier: 'Post', trackingNumber: 'T1' })
    await post(`/v1/orders/${served}/delivery`)
  },
})
