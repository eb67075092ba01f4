import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { KafkaClient } from '@shopstream/messaging/operations'
import { ownPorts } from '../../local/settings.ts'
import { type Shop, startShop } from '../../local/shop.ts'
import { type Owner, owners, type Reach, reach } from '../../operations/shop-access.ts'

/** A shop of the run's own, and what happens to its processes. */
export interface OwnShop {
  readonly shop: Shop
  readonly reach: Reach
  /** What has ended and was started again, since it was ready: nothing may. */
  restarts(): string[]
  close(): Promise<void>
}

export interface OwnShopOptions {
  folder: string
  client: KafkaClient
  signal: AbortSignal
}

/** Starts it; returns when it is ready. Logs go to `folder`/logs. */
export async function openOwnShop({ folder, client, signal }: OwnShopOptions): Promise<OwnShop> {
  const logs = join(folder, 'logs')
  mkdirSync(logs, { recursive: true })
  const log = (name: string, line: string) => appendFileSync(join(logs, `${name}.log`), `${line}\n`)
  const events: string[] = []
  const shop = await startShop({
    home: join(folder, 'shop'),
    env: { ...withoutServers(process.env), LOG_LEVEL: 'info', KAFKA_CLIENT: client },
    ports: await ownPorts(),
    onLine: log,
    onProgress(line) {
      log('stack', `${new Date().toISOString()} ${line}`)
      events.push(line)
    },
    signal,
  })
  const sinceReady = events.length
  process.env.KAFKA_CLIENT = client // this process looks at the shop by the same client
  const hold = await reach(addressesOf(shop), 'silent')
  return {
    shop,
    reach: hold,
    restarts: () => events.slice(sinceReady).filter((line) => /starting it again|does not start|ERROR/.test(line)),
    async close() {
      await hold.close()
      await shop.stop()
    },
  }
}

/** The run has servers of its own, whatever this process would use. */
const withoutServers = ({ KAFKA_BROKERS: _, POSTGRES_URL: __, SHOPSTREAM_HOME: ___, ...env }: NodeJS.ProcessEnv) => env

const addressesOf = ({ kafka, topicPrefix, serviceUrls, databaseUrl }: Shop) => ({
  brokers: kafka.brokers,
  topicPrefix,
  serviceUrls,
  databaseUrls: Object.fromEntries(owners.map((owner) => [owner, databaseUrl(owner)])) as Record<Owner, string>,
})
