import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** A process as distinct from all others that had or will have its number. */
export interface Identity {
  pid: number
  /** When it was started, in a form that only serves for comparison. */
  startedAt: string
}

/** The identity of a running process; undefined when none of that number runs (a zombie does not run). */
export function identify(pid: number): Identity | undefined {
  const startedAt = existsSync('/proc/self/stat') ? startFromProc(pid) : startFromPs(pid)
  return startedAt === undefined ? undefined : { pid, startedAt }
}

/** Whether the very process runs, and not a later one of the same number. */
export function isAlive(identity: Identity): boolean {
  return identify(identity.pid)?.startedAt === identity.startedAt
}

function startFromProc(pid: number): string | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  // The name in parentheses may hold anything, so count from its end: state is field 3, start time field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  return `${readIfThere('/proc/sys/kernel/random/boot_id')?.trim()}:${fields[19]}`
}

function startFromPs(pid: number): string | undefined {
  try {
    const out = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { LC_ALL: 'C' },
    })
    const [state = 'Z', ...start] = out.trim().split(/\s+/)
    return state.startsWith('Z') ? undefined : start.join(' ')
  } catch {
    return undefined // ps answers 1 for an unknown process
  }
}

/** The text of a file; undefined when there is none, as when a process of `/proc` has ended meanwhile. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

/**
 * Stops the process that a file written by {@link writeIdentity} names, if it still runs: `signal`, then SIGKILL after
 * `limitMs`. Returns the identity of what was stopped. Removes the file.
 */
export async function stopLeftover(
  pidFile: string,
  { signal = 'SIGTERM', limitMs = 5_000 }: { signal?: NodeJS.Signals; limitMs?: number } = {},
): Promise<Identity | undefined> {
  const text = readIfThere(pidFile)
  if (text === undefined) return undefined
  const identity = parseIdentity(text)
  const found = identity !== undefined && isAlive(identity)
  if (found) {
    send(identity.pid, signal)
    const deadline = performance.now() + limitMs
    while (isAlive(identity) && performance.now() < deadline) await delay(20)
    if (isAlive(identity)) send(identity.pid, 'SIGKILL')
    while (isAlive(identity)) await delay(10)
  }
  rmSync(pidFile, { force: true })
  return found ? identity : undefined
}

/** Reads what {@link writeIdentity} wrote; undefined for a file that was cut off by a crash. */
export function parseIdentity(text: string): Identity | undefined {
  try {
    const { pid, startedAt } = JSON.parse(text)
    return Number.isInteger(pid) && typeof startedAt === 'string' ? { pid, startedAt } : undefined
  } catch {
    return undefined
  }
}

/** Records a process so that {@link stopLeftover} finds it after the death of whoever started it. */
export function writeIdentity(file: string, pid: number): void {
  writeFileSync(`${file}.new`, JSON.stringify(identify(pid) ?? { pid, startedAt: 'gone' }))
  renameSync(`${file}.new`, file)
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // it ended in between: all the better
  }
}
