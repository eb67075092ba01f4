import { spawnSync } from 'node:child_process'

/** Whether this machine has a program: what it then says and how it ends does not count. */
export const isOnPath = (program: string): boolean =>
  spawnSync(program, ['--help'], { stdio: 'ignore' }).error === undefined
