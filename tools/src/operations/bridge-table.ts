import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ConfigError } from '@shopstream/config'
import { good, plural, table } from '../terminal/format.ts'
import { Refusal } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { readBridgeTable } from './services.ts'
import { bridgeEnvironment } from './shop-access.ts'

export const usage = `Usage: npm run shop -- bridges [FILE...]

Judges a table of bridges before a service is started with it: prints its rows, or all that is wrong, as the service would say it.
Nothing is connected to.

  FILE  files with rows, which stand together; default: what BRIDGES_FILE or BRIDGES says, here or in the shop that was started here
        last, else services/bridge/src/bridges.ts

The variables with URLs are those of the environment, and of that shop.
Exit code 0, or 1 when something is wrong.`

export async function bridges(args: string[]): Promise<number> {
  const { positionals: files } = parseArgs({ args, allowPositionals: true })
  const { BRIDGES: text, ...env } = bridgeEnvironment(process.env)
  const paths = files.map((file) => resolve(process.env.INIT_CWD ?? '', file)).join()
  const rows = await judged(paths === '' ? { ...env, ...(text && { BRIDGES: text }) } : { ...env, BRIDGES_FILE: paths })
  const lines = rows.map(({ name, direction, kind, events }) => [
    name,
    direction === 'send' ? `sends to ${kind}` : `receives from ${kind}`,
    events.join(', '),
  ])
  print([...table(lines), good(`${plural(rows.length, 'bridge')}, and nothing is wrong.`)].join('\n'))
  return 0
}

async function judged(env: NodeJS.ProcessEnv) {
  try {
    return await readBridgeTable(env)
  } catch (error) {
    if (error instanceof ConfigError) throw new Refusal(error.problems.join('\n'))
    throw error
  }
}
