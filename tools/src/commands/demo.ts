/** `npm run demo`: plays a day in the shop and shows each event and mail that it causes. */
import { once } from 'node:events'
import { dataSettings, readConfig, settings, Type } from '@shopstream/config'
import { play } from '../local/demo/scenes.ts'
import { bold, type DemoShop, grey, say } from '../local/demo/stage.ts'
import { type Shop, startShop } from '../local/shop.ts'
import { runningShop } from '../local/state-folder.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run demo [-- --gateway URL]

Plays a day in the shop that npm start runs in this clone (or starts one for it): customers register, staff stock a
product, customers order until it is sold out, staff ship. Shows what each step answers, the events it causes in Kafka
and the mails that go out. Takes half a minute at most and leaves its customers and its product behind.

  --gateway URL   another shop, such as that of docker compose (http://127.0.0.1:8080), by KAFKA_BROKERS (default
                  127.0.0.1:9092), KAFKA_TOPIC_PREFIX, MAIL_URL (http://127.0.0.1:1080), STAFF_EMAIL and STAFF_PASSWORD
  --help`

const elsewhere = Type.Object({
  KAFKA_BROKERS: settings.text('its brokers, separated by commas', { defaultValue: '127.0.0.1:9092' }),
  KAFKA_TOPIC_PREFIX: dataSettings.KAFKA_TOPIC_PREFIX,
  MAIL_URL: settings.text('where its mails are shown', { pattern: '^http://', defaultValue: 'http://127.0.0.1:1080' }),
  STAFF_EMAIL: settings.text('address of its staff account', { defaultValue: 'staff@shop.example' }),
  STAFF_PASSWORD: settings.secret('password of its staff account'),
})

/** A shop that somebody else runs. Throws a ConfigError. */
function shopAt(gatewayUrl: string): DemoShop {
  const { KAFKA_BROKERS, KAFKA_TOPIC_PREFIX, MAIL_URL, STAFF_EMAIL, STAFF_PASSWORD } = readConfig(
    elsewhere,
    process.env,
  )
  return {
    gatewayUrl: gatewayUrl.replace(/\/$/, ''),
    brokers: KAFKA_BROKERS.split(','),
    topicPrefix: KAFKA_TOPIC_PREFIX,
    mailUrl: MAIL_URL.replace(/\/$/, ''),
    staff: { email: STAFF_EMAIL, password: STAFF_PASSWORD },
  }
}

async function main(gateway: string | undefined): Promise<void> {
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))
  let own: Shop | undefined
  try {
    const running = gateway === undefined ? runningShop() : shopAt(gateway)
    if (!running) say('No shop runs here; starting one for the demo …')
    own = running
      ? undefined
      : await startShop({ onProgress: (line) => say(grey(`  ${line}`)), signal: interrupted.signal })
    const ended = once(interrupted.signal, 'abort').then(() => Promise.reject(interrupted.signal.reason))
    await Promise.race([ended, play((running ?? runningShop()) as DemoShop)])
    say(bold('\nEvery step worked.'))
  } catch (error) {
    process.stderr.write(`\nThe demo went wrong: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  } finally {
    await own?.stop()
  }
}

const { gateway } = readOptions(usage, { gateway: { type: 'string' } })
await main(gateway)
process.exit()
