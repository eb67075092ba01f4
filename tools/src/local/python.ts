import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from '@shopstream/local-servers'

const limitMs = 300_000

/**
 * A Python that has what a file pins, or of it `packages` alone: made in `folder` once per content of the file; what an
 * interrupted run has left there is thrown away. Returns its path; throws with what failed.
 */
export async function virtualEnvironment(
  folder: string,
  pinned: string,
  { packages = [], say = () => {} }: { packages?: readonly string[]; say?: (line: string) => void } = {},
): Promise<string> {
  const interpreter = join(folder, 'venv/bin/python')
  await installOnce(folder, [pinned], async (limits) => {
    say(`installing ${packages.join(', ') || 'what is pinned'} for Python`)
    await runCommand('python3', ['-m', 'venv', join(folder, 'venv')], limits)
    const what = packages.length > 0 ? ['-c', pinned, ...packages] : ['-r', pinned]
    await runCommand(interpreter, ['-m', 'pip', 'install', '-q', '--no-compile', ...what], limits)
  })
  return interpreter
}

/** Has `install` fill `folder`, once per content of `files`; what an interrupted run has left there is thrown away. */
export async function installOnce(
  folder: string,
  files: readonly string[],
  install: (limits: { env: NodeJS.ProcessEnv; limitMs: number }) => Promise<void>,
): Promise<void> {
  const stamp = join(folder, 'installed.sha256')
  const hash = createHash('sha256')
  for (const file of files) hash.update(readFileSync(file))
  const wanted = hash.digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await install({ env: withoutOtherTools(process.env), limitMs })
  writeFileSync(stamp, wanted)
}

/** Not npm's settings and Node's flags, which were meant for this process, nor another virtual environment. */
export function withoutOtherTools(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const foreign = /^(npm_|NODE_OPTIONS$|NODE_ENV$|JEST_WORKER_ID$|CELERY_BROKER_URL$|VIRTUAL_ENV$)/
  return Object.fromEntries(Object.entries(env).filter(([variable]) => !foreign.test(variable)))
}
