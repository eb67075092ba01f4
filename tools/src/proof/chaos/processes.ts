import { join } from 'node:path'
import { processEnvironment } from '../../local/environments.ts'
import { nodeFlags } from '../../local/shop.ts'
import { type SupervisedService, supervise } from '../../local/supervisor.ts'

/** What the run's own processes, beside those of the shop, have in common. */
export interface ProcessSurroundings {
  /** Folder of the shop's state: a file in it names each process. */
  home: string
  /** What they inherit. */
  env: NodeJS.ProcessEnv
  /** Takes a line of a process. */
  log(name: string, line: string): void
  /** Told what becomes of them. */
  say(line: string): void
}

export interface NodeLaunch {
  name: string
  /** From `cwd`. */
  script: string
  cwd: string
  /** Beside what it inherits. */
  env: Record<string, string>
  readyUrl: string
}

/** Starts a script, and starts it again when it dies. */
export const superviseNode = (
  { home, env, log, say }: ProcessSurroundings,
  { name, script, cwd, env: own, readyUrl }: NodeLaunch,
): SupervisedService =>
  supervise({
    name,
    command: process.execPath,
    args: [...nodeFlags, script],
    cwd,
    env: processEnvironment(env, own),
    pidFile: join(home, `${name}.pid`),
    readyUrl,
    onLine: (line) => log(name, line),
    onEvent: say,
    onGivenUp: say,
  })
