import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, renameSync, rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { readIfThere, writeIdentity } from './process-identity.ts'

const faults = new Set(['SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGSEGV', 'SIGSYS', 'SIGTRAP'])

/** Whether a signal that ended a process came from outside, such as the OOM killer's, and not from its own fault. */
export const isFromOutside = (signal: string | null | undefined) => typeof signal === 'string' && !faults.has(signal)

/** How a local server is run. */
export interface Launch {
  /** For messages: `Kafka`. */
  name: string
  command: string
  args: string[]
  /** Default `/`. */
  cwd?: string
  env?: NodeJS.ProcessEnv
  uid?: number
  gid?: number
  port: number
  /** Both outputs go here; the file of the run before is kept as `….1`. */
  logFile: string
  pidFile: string
  /** The line of the log that says that it takes requests. */
  ready: RegExp
  readyLimitMs: number
  /** A reason to die at once that passes by itself, so that starting is tried again. */
  passing?: RegExp
  stopSignal: NodeJS.Signals
  stopLimitMs: number
  /** Called before each start. */
  prepare?: () => void
  /** Called after {@link LocalProcess.stop}: whether it ended by itself, or had to be killed at the limit. */
  stopped?: (orderly: boolean) => void
  /** Ends a start that is still going on. */
  signal?: AbortSignal
  /** Called when it ended without having been told to. */
  onUnexpectedEnd?: (how: string) => void
}

/** A local server: started detached in a session of its own, so that Ctrl-C in a terminal does not reach it. */
export interface LocalProcess {
  readonly host: string
  readonly port: number
  /** Of the current run, undefined while stopped. */
  readonly pid: number | undefined
  readonly running: boolean
  /** How long the last start took until it was ready. */
  readonly startedInMs: number
  /** Orderly end, SIGKILL after a limit (`limitMs` shortens it). Fine to repeat. */
  stop(limitMs?: number): Promise<void>
  /** Sends a signal, SIGKILL by default, and waits for the end if the signal is one that ends it. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Starts again on the same port and data, after stopping what runs. */
  restart(): Promise<void>
}

/** Starts a server and waits until it is ready. Throws with the end of its log when it dies or is not ready in time. */
export async function startProcess(launch: Launch): Promise<LocalProcess> {
  let child: ChildProcess | undefined
  let ended: Promise<unknown> = Promise.resolve()
  let expected = false
  let startedInMs = 0

  function run(): ChildProcess {
    launch.prepare?.()
    if (existsSync(launch.logFile)) renameSync(launch.logFile, `${launch.logFile}.1`)
    const log = openSync(launch.logFile, 'w', 0o600)
    const started = spawn(launch.command, launch.args, {
      cwd: launch.cwd ?? '/',
      env: launch.env ?? process.env,
      detached: true,
      stdio: ['ignore', log, log],
      ...(launch.uid === undefined ? {} : { uid: launch.uid }),
      ...(launch.gid === undefined ? {} : { gid: launch.gid }),
    })
    closeSync(log)
    if (started.pid !== undefined) writeIdentity(launch.pidFile, started.pid)
    started.unref()
    return started
  }

  async function attempt(): Promise<string | undefined> {
    const begun = performance.now()
    expected = false
    const current = run()
    child = current
    let failure: string | undefined
    let isReady = false
    ended = new Promise((resolve) => {
      const end = (how: string) => {
        failure = how
        if (child === current) child = undefined
        resolve(how)
        if (isReady && !expected) launch.onUnexpectedEnd?.(how)
      }
      current.once('exit', (code, signal) => end(signal ? `was ended by ${signal}` : `ended with code ${code}`))
      current.once('error', (error) => end(error.message))
    })
    while (!failure && !launch.signal?.aborted && performance.now() - begun < launch.readyLimitMs) {
      if (launch.ready.test(readIfThere(launch.logFile) ?? '')) {
        isReady = true
        startedInMs = Math.round(performance.now() - begun)
        return undefined
      }
      await delay(15)
    }
    const isLate = !failure
    if (isLate) await end('SIGKILL', 1_000)
    launch.signal?.throwIfAborted()
    return isLate ? `was not ready within ${launch.readyLimitMs} ms` : failure
  }

  async function start(): Promise<void> {
    const begun = performance.now()
    for (let attempts = 1; ; attempts += 1) {
      const failure = await attempt()
      if (!failure) return
      const log = (readIfThere(launch.logFile) ?? '').trimEnd()
      const passed = performance.now() - begun
      const isPassing = launch.passing?.test(log) && passed < 8_000
      const wasKilled = isFromOutside(/^was ended by (SIG\w+)/.exec(failure)?.[1]) && passed < launch.readyLimitMs
      if (isPassing || wasKilled) {
        await delay(isPassing ? 100 : Math.min(100 * 3 ** (attempts - 1), 10_000))
        launch.signal?.throwIfAborted()
        continue
      }
      const tail = log.split('\n').slice(-15).join('\n')
      throw new Error(`${launch.name} ${failure}; the end of ${launch.logFile}:\n${tail}`)
    }
  }

  /** Returns whether it ended within `limitMs`; it was killed otherwise. */
  async function end(signal: NodeJS.Signals, limitMs: number): Promise<boolean> {
    const current = child
    if (!current?.pid) return true
    expected = true
    let orderly = true
    current.ref()
    current.kill(signal)
    const limit = setTimeout(() => {
      orderly = false
      current.kill('SIGKILL')
    }, limitMs)
    await ended
    clearTimeout(limit)
    rmSync(launch.pidFile, { force: true })
    return orderly
  }

  async function stop(limitMs = launch.stopLimitMs): Promise<void> {
    if (!child) return
    const orderly = await end(launch.stopSignal, limitMs)
    launch.stopped?.(orderly)
  }

  await start()
  return {
    host: '127.0.0.1',
    port: launch.port,
    get pid() {
      return child?.pid
    },
    get running() {
      return child !== undefined
    },
    get startedInMs() {
      return startedInMs
    },
    stop,
    async kill(signal = 'SIGKILL') {
      if (['SIGSTOP', 'SIGCONT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'].includes(signal)) child?.kill(signal)
      else await end(signal, launch.stopLimitMs)
    },
    async restart() {
      await stop()
      await start()
    },
  }
}

/** Runs a command to its end and returns its output; throws with what it printed when it fails. */
export async function runCommand(
  command: string,
  args: string[],
  options: {
    cwd?: string
    env?: NodeJS.ProcessEnv
    uid?: number
    gid?: number
    limitMs?: number
    signal?: AbortSignal
  } = {},
): Promise<string> {
  const { limitMs = 60_000, ...rest } = options
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: limitMs, ...rest })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const [code, signal] = await once(child, 'close')
  if (code !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? `code ${code}`}:\n${output.trim()}`)
  return output
}
