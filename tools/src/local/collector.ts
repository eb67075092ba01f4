import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder, repository, runCommand } from '@shopstream/local-servers'

/** Configurations of the collector, and the program that it is built from. */
export const collectorFolder = join(repository, 'infra/collector')
const sources = ['main.go', 'go.mod', 'go.sum']

/** Where the collector of these sources is, once it was built; COLLECTOR_BIN names another one. */
export function collectorProgram(env: NodeJS.ProcessEnv = process.env): string {
  if (env.COLLECTOR_BIN) return env.COLLECTOR_BIN
  const hash = createHash('sha256')
  for (const file of sources) hash.update(readFileSync(join(collectorFolder, file)))
  return join(cacheFolder, `otelcol-${hash.digest('hex').slice(0, 16)}`)
}

/** Builds the collector where that was not done before. Throws with what it needs. */
export async function buildCollector(progress: (line: string) => void, signal?: AbortSignal): Promise<string> {
  const program = collectorProgram()
  if (existsSync(program)) return program
  if (process.env.COLLECTOR_BIN) throw new Error(`COLLECTOR_BIN is ${program}, and there is no such file`)
  const version = await runCommand('go', ['version'], { limitMs: 20_000 }).catch(() => undefined)
  if (version === undefined)
    throw new Error(
      'The collector is built by Go 1.25 or later, and this machine has none. Install it (https://go.dev/dl), or let ' +
        'COLLECTOR_BIN name a collector that is there, such as otelcol-contrib.',
    )
  progress(`${version.trim()} builds the collector from infra/collector; the first time it takes some minutes`)
  mkdirSync(cacheFolder, { recursive: true })
  const begun = performance.now()
  const seconds = () => `${Math.round((performance.now() - begun) / 1_000)} s`
  const alive = setInterval(() => progress(`still building after ${seconds()}`), 30_000)
  const fresh = `${program}.${process.pid}.unfinished`
  // Without all the ways of Prometheus to find its targets, which are two hundred packages.
  const args = ['build', '-mod=readonly', '-trimpath', '-tags', 'remove_all_sd', '-ldflags', '-s -w', '-o', fresh, '.']
  try {
    const env = { ...process.env, CGO_ENABLED: '0' }
    await runCommand('go', args, { cwd: collectorFolder, env, limitMs: 3_600_000, ...(signal && { signal }) })
  } finally {
    clearInterval(alive)
  }
  renameSync(fresh, program) // whole or not at all
  progress(`built in ${seconds()}`)
  return program
}
