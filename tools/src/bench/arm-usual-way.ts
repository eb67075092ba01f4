import { createHmac } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, runCommand, startKafka, startMailSink, startPostgres, temporaryFolder } from '@shopstream/testing'
import { nodeFlags } from '../local/shop.ts'
import { type Arm, openCounter, ordersOf, skusOf, startArm, startProgram } from './arm.ts'

const source = join(import.meta.dirname, 'usual')
const poolSize = 10
const secret = 'of-a-benchmark'
const skus = 20

/** The same services, databases, tables and topics, written as is usual: JSON, a transaction a message, a polled outbox. */
export const usual: Arm = {
  name: 'the usual way',
  words:
    'a gateway and three services; a transaction per message and an outbox polled each second; neither schemas nor parking',
  lacks: () => undefined,
  start: (clients) =>
    startArm(async (undo) => {
      const home = temporaryFolder('bench-usual')
      undo.push(async () => rmSync(home, { recursive: true, force: true }))
      const [postgres, kafka, mail] = await Promise.all([
        startPostgres({ dir: join(home, 'postgres'), password: secret }),
        startKafka({ dir: join(home, 'kafka') }),
        startMailSink(),
      ])
      undo.push(postgres.stop, kafka.stop, mail.close)
      const brokers = kafka.brokers.join()
      await runCommand(process.execPath, [join(source, 'fill.ts'), String(clients), String(skus)], {
        env: { ...process.env, POSTGRES_URL: postgres.url, KAFKA_BROKERS: brokers },
      })
      const [gatewayPort, orderPort] = [await freePort(), await freePort()]
      const databaseOf = (name: string) => postgres.url.replace('/postgres?', `/${name}?`)
      const service = async (name: string, port: number, env: Record<string, string>) => {
        const args = [...nodeFlags, join(source, `${name}.ts`)]
        const shared = { KAFKA_BROKERS: brokers, POOL_SIZE: String(poolSize), PORT: String(port), TOKEN_SECRET: secret }
        const running = await startProgram({
          name,
          home,
          args,
          env: { ...shared, DATABASE_URL: databaseOf(name), ...env },
          port,
        })
        undo.push(running.stop)
      }
      await service('inventory', kafka.port, {})
      await service('notification', kafka.port, { SMTP_PORT: String(mail.smtpPort) })
      await service('order', orderPort, {})
      await service('gateway', gatewayPort, { ORDER_PORT: String(orderPort) })
      const mails = openCounter(databaseOf('notification'), 'select count(*)::int as n from notification')
      undo.push(mails.close)
      const signature = (customer: string) => createHmac('sha256', secret).update(customer).digest('base64url')
      const customers = Array.from({ length: clients }, (_, n) => `customer-${n}`)
      const tokens = customers.map((customer) => `${customer}.${signature(customer)}`)
      const url = `http://127.0.0.1:${gatewayPort}/v1/orders`
      return { plan: { url, clients: ordersOf(tokens, skusOf(skus)) }, confirmed: mails.count }
    }),
}
