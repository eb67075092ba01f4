import { rmSync } from 'node:fs'
import { temporaryFolder } from '@shopstream/testing'
import { orderOf, register, staffToken, stock } from '../stack/client.ts'
import { startShop } from '../stack/shop.ts'
import { type Arm, openCounter } from './arms.ts'

/** The shop as `npm start` runs it; mails go by SMTP to a sink in this process. */
export const ours: Arm = {
  name: 'shopstream',
  words: 'five services, a gateway, a broker, a token, an idempotency key, and each mail by SMTP',
  lacks: () => undefined,
  async start(clients) {
    const home = temporaryFolder('bench')
    const shop = await startShop({ home })
    const staff = await staffToken(shop)
    const skus = await Promise.all(Array.from({ length: 20 }, () => stock(shop, staff, 1_000_000)))
    const tokens: string[] = []
    for (let n = 0; n < clients; n++) tokens.push((await register(shop)).token)
    const mails = openCounter(
      shop.databaseUrl('notification'),
      `select count(*)::int as n from notification where kind = 'confirmed'`,
    )
    return {
      plan: {
        url: `${shop.gatewayUrl}/v1/orders`,
        clients: tokens.map((token, n) => ({ token, body: JSON.stringify(orderOf(skus[n % skus.length] as string)) })),
      },
      confirmed: mails.count,
      async stop() {
        await mails.close()
        await shop.stop()
        rmSync(home, { recursive: true, force: true })
      },
    }
  },
}
