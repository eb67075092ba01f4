/** `npm run reset`: forgets the local shop's state, without asking; refuses while it runs. */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { removePostgres } from '@shopstream/local-servers'
import { removeKafkaContainer } from '../local/kafka.ts'
import { cleanUp } from '../local/leftovers.ts'
import { AlreadyRunning, claimHome, homeFolder } from '../local/state-folder.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run reset

Forgets the local shop's state, without asking: users, orders, stock, topics, mails and secrets. Refuses while it runs.

Environment: SHOPSTREAM_HOME is the folder to be forgotten (default: .shopstream).`

readOptions(usage, {})
const home = homeFolder()
if (!existsSync(home)) console.log(`There is nothing to forget: ${home} does not exist.`)
else await reset()

async function reset(): Promise<void> {
  try {
    claimHome(home)
  } catch (error) {
    if (!(error instanceof AlreadyRunning)) throw error
    console.error(`Not reset: the shop runs (pid ${error.pid}). Stop it first.`)
    process.exitCode = 1
    return
  }
  await cleanUp(home, process.env, console.log)
  await removeKafkaContainer(home, process.env)
  removePostgres(join(home, 'postgres'))
  rmSync(home, { recursive: true, force: true })
  console.log(`Forgotten: ${home} is gone, with users, orders, stock, topics, mails and secrets.`)
  if (process.env.POSTGRES_URL || process.env.KAFKA_BROKERS) {
    console.log(
      'What the shop keeps in POSTGRES_URL and KAFKA_BROKERS is still there: drop it by hand, or a new key will not open it.',
    )
  }
}
