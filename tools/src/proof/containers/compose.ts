import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { repository, runCommand } from '@shopstream/testing'

/** The shop of docker-compose.yml, in a project of its own. */
export interface ComposeShop {
  /** Runs `docker compose`; `env` is said besides. Returns what it printed. Throws when it fails. */
  compose(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<string>
  /** Runs `docker`. */
  docker(args: readonly string[]): Promise<string>
  /** The container of a service. */
  idOf(service: string): Promise<string>
}

const minutesMs = 60_000

export function composeShop(project: string, env: NodeJS.ProcessEnv): ComposeShop {
  const run = (args: readonly string[], besides: NodeJS.ProcessEnv = {}) =>
    runCommand('docker', [...args], { cwd: repository, env: { ...env, ...besides }, limitMs: 30 * minutesMs })
  const compose = (args: readonly string[], besides?: NodeJS.ProcessEnv) =>
    run(['compose', '--project-name', project, '--ansi', 'never', ...args], besides)
  return {
    compose,
    docker: (args) => run(args),
    idOf: async (service) => (await compose(['ps', '--quiet', service])).trim(),
  }
}

/** Builds an image from the code of a commit, which git hands to the engine. */
export async function buildFromCommit(
  commit: string,
  { service, tag, env }: { service: string; tag: string; env: NodeJS.ProcessEnv },
): Promise<void> {
  const git = spawn('git', ['-C', repository, 'archive', commit], { stdio: ['ignore', 'pipe', 'inherit'] })
  const build = ['build', '--quiet', '--build-arg', `SERVICE=${service}`, '--tag', `shopstream/${service}:${tag}`, '-']
  const docker = spawn('docker', build, { env, stdio: ['pipe', 'ignore', 'pipe'] })
  let said = ''
  docker.stderr.setEncoding('utf8').on('data', (text) => (said += text))
  const ended = Promise.all([once(git, 'close'), once(docker, 'close')])
  await pipeline(git.stdout, docker.stdin).catch(() => undefined) // a build that has failed reads no more; its code tells
  const [[packed], [built]] = await ended
  if (packed !== 0 || built !== 0) throw new Error(`the image of ${service} at ${commit} could not be built:\n${said}`)
}
