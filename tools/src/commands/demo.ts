/** `npm run demo`: plays a day in the shop and shows each event and mail that it causes. */
import { once } from 'node:events'
import { play } from '../local/demo/scenes.ts'
import { bold, grey, say } from '../local/demo/stage.ts'
import { type Shop, startShop } from '../local/shop.ts'
import { type RunningShop, runningShop } from '../local/state-folder.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run demo

Plays a day in the shop that npm start runs in this clone (or starts one for it): customers register, staff stock a
product, customers order until it is sold out, staff ship. Shows what each step answers, the events it causes in Kafka
and the mails that go out. Takes half a minute at most and leaves its customers and its product behind.`

async function main(): Promise<void> {
  const running = runningShop()
  if (!running) say('No shop runs here; starting one for the demo …')
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}`)))
  let own: Shop | undefined
  try {
    own = running
      ? undefined
      : await startShop({ onProgress: (line) => say(grey(`  ${line}`)), signal: interrupted.signal })
    const ended = once(interrupted.signal, 'abort').then(() => Promise.reject(interrupted.signal.reason))
    await Promise.race([ended, play((running ?? runningShop()) as RunningShop)])
    say(bold('\nEvery step worked.'))
  } catch (error) {
    process.stderr.write(`\nThe demo went wrong: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  } finally {
    await own?.stop()
  }
}

readOptions(usage, {})
await main()
process.exit()
