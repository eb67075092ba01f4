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

/** A server from one start to the next. */
interface Server {
  readonly launch: Launch
  /** Of the current run, undefined while stopped. */
  child: ChildProcess | undefined
  /** Resolves when what was started last has ended. */
  ended: Promise<unknown>
  /** Whether it was told to end. */
  expected: boolean
  startedInMs: number
}

/** Starts a server and waits until it is ready. Throws with the end of its log when it dies or is not ready in time. */
export async function startProcess(launch: Launch): Promise<LocalProcess> {
  const server: Server = { launch, child: undefined, ended: Promise.resolve(), expected: false, startedInMs: 0 }
  await start(server)
  return {
    host: '127.0.0.1',
    port: launch.port,
    get pid() {
      return server.child?.pid
    },
    get running() {
      return server.child !== undefined
    },
    get startedInMs() {
      return server.startedInMs
    },
    stop: (limitMs) => stop(server, limitMs),
    async kill(signal = 'SIGKILL') {
      if (['SIGSTOP', 'SIGCONT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'].includes(signal)) server.child?.kill(signal)
      else await end(server, signal, launch.stopLimitMs)
    },
    async restart() {
      await stop(server)
      await start(server)
    },
  }
}

/** Tries again while what it dies of passes by itself, or comes from outside. */
async function start(server: Server): Promise<void> {
  const { launch } = server
  const begun = performance.now()
  for (let attempts = 1; ; attempts += 1) {
    const failure = await attempt(server)
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

/** Starts it once; returns why it did not become ready, undefined when it did. */
async function attempt(server: Server): Promise<string | undefined> {
  const { launch } = server
  const begun = performance.now()
  server.expected = false
  const current = spawnDetached(launch)
  server.child = current
  let failure: string | undefined
  let isReady = false
  server.ended = new Promise((resolve) => {
    const ends = (how: string) => {
      failure = how
      if (server.child === current) server.child = undefined
      resolve(how)
      if (isReady && !server.expected) launch.onUnexpectedEnd?.(how)
    }
    current.once('exit', (code, signal) => ends(signal ? `was ended by ${signal}` : `ended with code ${code}`))
    current.once('error', (error) => ends(error.message))
  })
  while (!failure && !launch.signal?.aborted && performance.now() - begun < launch.readyLimitMs) {
    if (launch.ready.test(readIfThere(launch.logFile) ?? '')) {
      isReady = true
      server.startedInMs = Math.round(performance.now() - begun)
      return undefined
    }
    await delay(15)
  }
  const isLate = !failure
  if (isLate) await end(server, 'SIGKILL', 1_000)
  launch.signal?.throwIfAborted()
  return isLate ? `was not ready within ${launch.readyLimitMs} ms` : failure
}

/** Runs the command in a session of its own, with a new log, and records who it is. */
function spawnDetached(launch: Launch): ChildProcess {
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

/** Returns whether it ended within `limitMs`; it was killed otherwise. */
async function end(server: Server, signal: NodeJS.Signals, limitMs: number): Promise<boolean> {
  const current = server.child
  if (!current?.pid) return true
  server.expected = true
  let orderly = true
  current.ref()
  current.kill(signal)
  const limit = setTimeout(() => {
    orderly = false
    current.kill('SIGKILL')
  }, limitMs)
  await server.ended
  clearTimeout(limit)
  rmSync(server.launch.pidFile, { force: true })
  return orderly
}

async function stop(server: Server, limitMs = server.launch.stopLimitMs): Promise<void> {
  if (!server.child) return
  const orderly = await end(server, server.launch.stopSignal, limitMs)
  server.launch.stopped?.(orderly)
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
