import { copyFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { cacheFolder, freePort, runCommand, startPostgres, temporaryFolder } from '@shopstream/testing'
import { installOnce } from '../local/python.ts'
import { type Arm, openCounter, ordersOf, skusOf, startArm, startProgram } from './arm.ts'
import type { Say } from './measure.ts'

const source = join(import.meta.dirname, 'workflow')
const files = ['package.json', 'package-lock.json', 'shop.mjs']
/** Of each of its two pools; see docs/performance.md. */
const poolSize = 20
const skus = 20

/** The same saga as durable workflows on Postgres (DBOS Transact), as a TypeScript shop would write it today. */
export const workflow: Arm = {
  name: 'durable workflows',
  words: 'one process and one database; no gateway, no login, no broker, no services of their own, no mail that leaves',
  lacks: () => undefined,
  start: (clients, say) =>
    startArm(async (undo) => {
      const program = await installed(say)
      const home = temporaryFolder('bench-workflow')
      undo.push(async () => rmSync(home, { recursive: true, force: true }))
      const postgres = await startPostgres({ dir: join(home, 'postgres'), password: 'of-a-benchmark' })
      undo.push(postgres.stop)
      const port = await freePort()
      const env = { DATABASE_URL: postgres.url, PORT: String(port), POOL_SIZE: String(poolSize) }
      const running = await startProgram({ name: 'workflows', home, args: [program, String(skus)], env, port })
      undo.push(running.stop)
      const mails = openCounter(postgres.url, 'select count(*)::int as n from mail')
      undo.push(mails.close)
      const customers = Array.from({ length: clients }, (_, n) => `customer-${n}@example.com`)
      return {
        plan: { url: `http://127.0.0.1:${port}/orders`, clients: ordersOf(customers, skusOf(skus)) },
        confirmed: mails.count,
      }
    }),
}

/** Its program beside what its lock file pins. */
async function installed(say: Say): Promise<string> {
  const folder = join(cacheFolder, 'bench/workflow')
  const sources = files.map((file) => join(source, file))
  await installOnce(folder, sources, async (limits) => {
    say('installing DBOS Transact')
    for (const file of sources) copyFileSync(file, join(folder, basename(file)))
    await runCommand('npm', ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund'], {
      cwd: folder,
      ...limits,
    })
  })
  return join(folder, 'shop.mjs')
}
