import { newEventId } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { exampleEvent, testContract } from '@shopstream/testing/contract'
import { buildInventory } from './app.ts'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'

const mug = { name: 'Enamel mug', description: 'Holds 350 ml.', price: { amount: 1450, currency: 'EUR' } }

testContract({
  consumes,
  produces,
  async drive(world, atEnd) {
    await world.publishSigningKey()
    const inventory = await buildInventory({ ...world.settings, SEED_CATALOGUE: false }, world.logger)
    atEnd(() => inventory.stop())
    await inventory.start()
    const authorization = `Bearer ${await world.token({ id: newEventId(), roles: ['customer', 'staff'] })}`
    const call = async (method: 'PUT' | 'POST' | 'DELETE', url: string, payload?: object) => {
      const request = { method, url, headers: { authorization }, ...(payload && { payload }) }
      const { statusCode, body } = await inventory.http.inject(request)
      if (statusCode >= 300) throw new Error(`${method} ${url} is answered with ${statusCode}: ${body}`)
    }
    await eventually('readiness', async () => (await inventory.http.inject('/readyz')).statusCode === 200)

    await call('PUT', '/v1/products/mug', mug)
    await call('PUT', '/v1/products/mug', { ...mug, name: 'Mug' })
    await call('POST', '/v1/products/mug/stock-adjustments', { delta: 5, reason: 'delivery' })
    const [shipped, cancelled, short] = [newEventId(), newEventId(), newEventId()]
    await world.publish(
      placed(shipped, 2),
      placed(cancelled, 3),
      placed(short, 99),
      exampleEvent('OrderShipped', shipped, { orderId: shipped }, 3n),
      exampleEvent('OrderCancelled', cancelled, { orderId: cancelled }, 2n),
    )
    await call('PUT', '/v1/products/old', mug)
    await call('DELETE', '/v1/products/old')
  },
})

function placed(orderId: string, quantity: number) {
  const lines = [{ sku: 'mug', quantity, unitPrice: { amount: 1450n, currency: 'EUR' } }]
  return exampleEvent('OrderPlaced', orderId, { orderId, lines })
}
