import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { newEventId } from '@shopstream/events'
import { freePort, repository, temporaryFolder } from '@shopstream/testing'
import { register, staffToken, stock } from '../local/client.ts'
import { processEnvironment } from '../local/environments.ts'
import type { ServiceName } from '../local/services.ts'
import { nodeFlags, type Shop, startShop } from '../local/shop.ts'
import { type Arm, openCounter, ordersOf, type RunningArm, startArm, startProgram } from './arm.ts'

export interface RunningShop extends RunningArm {
  shop: Shop
  /** A customer's each. */
  tokens: string[]
  /** Each with a million pieces. */
  skus: string[]
}

export interface Kept {
  /** Folder of a shop that is there already, and is left there. */
  home: string
  /** What is ordered, in place of products of its own. */
  skus?: string[]
}

/** The shop as `npm start` runs it, with so many customers and products; mails go by SMTP to a sink in this process. */
export const openShop = (customers: number, products = 20, kept?: Kept): Promise<RunningShop> =>
  startArm(async (undo) => {
    const home = kept?.home ?? temporaryFolder('bench')
    if (!kept) undo.push(async () => rmSync(home, { recursive: true, force: true }))
    const shop = await startShop({ home })
    undo.push(shop.stop)
    const staff = await staffToken(shop)
    const skus: string[] = [...(kept?.skus ?? [])]
    while (skus.length < products) {
      const some = Array.from({ length: Math.min(20, products - skus.length) }, () => stock(shop, staff, 1_000_000))
      skus.push(...(await Promise.all(some)))
    }
    const tokens: string[] = []
    while (tokens.length < customers) tokens.push((await register(shop)).token)
    // Ids are in the order of time: what was there before, such as a million, is not counted again and again.
    const mails = openCounter(
      shop.databaseUrl('notification'),
      `select count(*)::int as n from notification where kind = 'confirmed' and id > '${newEventId()}'`,
    )
    undo.push(mails.close)
    const plan = { url: `${shop.gatewayUrl}/v1/orders`, clients: ordersOf(tokens, skus) }
    return { shop, tokens, skus, plan, confirmed: mails.count }
  })

/** The environment that the stack gives a service. */
export const environmentOf = ({ home }: Pick<Shop, 'home'>, name: ServiceName) =>
  parseEnv(readFileSync(join(home, 'env', `${name}.env`), 'utf8')) as Record<string, string>

/** One more process of a service, as the stack runs it, on a port of its own; it listens, and may not be ready yet. */
export async function startInstance(shop: Pick<Shop, 'home'>, name: ServiceName, env: Record<string, string> = {}) {
  const port = await freePort()
  const own = { ...environmentOf(shop, name), ...env, PORT: String(port) }
  const running = await startProgram({
    name: `${name}-${port}`,
    home: shop.home,
    args: [...nodeFlags, join(repository, 'services', name, 'src/main.ts')],
    env: processEnvironment(process.env, own) as Record<string, string>,
    port,
    ready: /Server listening/,
  })
  return { url: `http://127.0.0.1:${port}`, stop: running.stop }
}

export const ours: Arm = {
  name: 'shopstream',
  words: 'five services, a gateway, a broker, a token, an idempotency key, and each mail by SMTP',
  lacks: () => undefined,
  start: (clients) => openShop(clients),
}
