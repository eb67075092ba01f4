import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { isFromOutside, writeIdentity } from '@shopstream/local-servers'
import { eachLine } from './log-lines.ts'

export interface ServiceLaunch {
  name: string
  command: string
  args: string[]
  /** Read at each start. */
  readonly cwd: string
  env: NodeJS.ProcessEnv
  /** Names the process that runs, for a next start to find what a killed stack has left. */
  pidFile: string
  /** Answers 200 when the service is ready. */
  readyUrl: string
  /** Whether it is the service that answers on its port, and not whoever has taken it; default true. */
  isGenuine?: (signal: AbortSignal) => Promise<boolean>
  onLine: (line: string) => void
  /** Told when it ends and is started again. */
  onEvent: (event: string) => void
  /** Told once when it keeps failing before it is ready and is not started any more. */
  onGivenUp: (reason: string) => void
  policy?: Partial<RestartPolicy>
}

export interface RestartPolicy {
  /** Number of deaths by its own errors, before it was ready, after which it is given up. */
  deaths: number
  /** Pause before the n-th restart (the first is n = 1) of a service that was not ready yet, in ms. */
  pauseMs: (deaths: number) => number
}

/** 0.1 s, 0.3 s, and so on up to 10 s: a process that was killed for lack of memory must not take it again at once. */
export const pauseMs = (deaths: number) => Math.min(100 * 3 ** (deaths - 1), 10_000)
const defaultPolicy: RestartPolicy = { deaths: 5, pauseMs }

/** How a process ended. */
interface End {
  how: string
  /** By its own fault. One that was told to end, by a signal or in order (code 0), may do well the next time. */
  isFailure: boolean
}

/** The machine had no room for another process at that moment. */
const shortages = new Set(['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE'])

/** A service that is started again when it dies. */
export interface SupervisedService {
  readonly name: string
  readonly pid: number | undefined
  /** How often it was started again. */
  readonly restartCount: number
  /** Whether the process that runs now has been ready. */
  readonly ready: boolean
  readonly givenUp: boolean
  /** Sends a signal to its process alone; it is started again if it ends. */
  kill(signal?: NodeJS.Signals): void
  /** Ends it for good: SIGTERM, SIGKILL after `limitMs`. */
  stop(limitMs: number): Promise<void>
}

/** Runs the process until it ends. `begun` gets it once it was started, and what is aborted when it has ended. */
async function runOnce(
  launch: ServiceLaunch,
  begun: (started: ChildProcess, ended: AbortSignal) => void,
): Promise<End> {
  const ended = new AbortController()
  try {
    const started = spawn(launch.command, launch.args, {
      cwd: launch.cwd,
      env: launch.env,
      detached: true, // Ctrl-C in the terminal reaches the stack alone, which stops things in order
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const exited = once(started, 'exit') as Promise<[code: number | null, signal: NodeJS.Signals | null]>
    begun(started, ended.signal)
    if (started.pid !== undefined) {
      writeIdentity(launch.pidFile, started.pid)
      for (const stream of [started.stdout, started.stderr]) eachLine(stream, launch.onLine)
    }
    const [code, signal] = await exited
    return signal
      ? { how: `been ended by ${signal}`, isFailure: !isFromOutside(signal) }
      : { how: `ended with code ${code}`, isFailure: code !== 0 }
  } catch (error) {
    const { message, code = '' } = error as NodeJS.ErrnoException
    return { how: `not started (${message})`, isFailure: !shortages.has(code) }
  } finally {
    ended.abort()
  }
}

/**
 * Starts a service in a process group of its own and keeps it running: at once after a death, with growing pauses if it
 * never gets ready. One that fails by itself again and again is given up; one that is killed from outside never is.
 */
export function supervise(launch: ServiceLaunch): SupervisedService {
  const policy = { ...defaultPolicy, ...launch.policy }
  const { isGenuine = async () => true } = launch
  const stopping = new AbortController()
  let child: ChildProcess | undefined
  let restartCount = 0
  let deaths = 0
  let failures = 0
  let ready = false
  let givenUp = false

  async function keepRunning(): Promise<void> {
    while (!stopping.signal.aborted) {
      ready = false
      const { how, isFailure } = await runOnce(launch, (started, ended) => {
        child = started
        if (started.pid !== undefined) void watchReadiness(ended)
      })
      child = undefined
      if (stopping.signal.aborted) return
      deaths = ready ? 0 : deaths + 1
      if (ready) failures = 0
      else if (isFailure) failures += 1
      if (failures >= policy.deaths) {
        givenUp = true
        launch.onGivenUp(
          `${launch.name} has ${how}, ${failures} times in a row before it was ready; it is not started again`,
        )
        return
      }
      const pause = policy.pauseMs(Math.max(deaths, 1))
      launch.onEvent(`${launch.name} has ${how}; starting it again${pause >= 1_000 ? ` in ${pause / 1_000} s` : ''}`)
      await delay(pause, undefined, { signal: stopping.signal }).catch(() => {}) // aborted: it is being stopped
      restartCount += 1
    }
  }

  async function watchReadiness(ended: AbortSignal): Promise<void> {
    while (!ended.aborted && !ready) {
      const isReady = (await probe(launch.readyUrl, ended))?.status === 200 && (await isGenuine(ended))
      if (ended.aborted) return
      ready = isReady
      if (!ready) await delay(50, undefined, { signal: ended }).catch(() => {}) // aborted: it has ended
    }
  }

  const finished = keepRunning()
  return {
    name: launch.name,
    get pid() {
      return child?.pid
    },
    get restartCount() {
      return restartCount
    },
    get ready() {
      return ready
    },
    get givenUp() {
      return givenUp
    },
    kill: (signal = 'SIGKILL') => void child?.kill(signal),
    async stop(limitMs) {
      stopping.abort()
      const current = child
      current?.kill('SIGTERM')
      current?.kill('SIGCONT') // one that was stopped would never see the SIGTERM
      const limit = setTimeout(() => current?.kill('SIGKILL'), limitMs)
      await finished
      clearTimeout(limit)
      rmSync(launch.pidFile, { force: true })
    },
  }
}

export interface Answer {
  status: number
  body: string
}

/** Asks a URL of this machine; undefined when nobody answers within 2 s. */
export async function probe(url: string, signal?: AbortSignal): Promise<Answer | undefined> {
  const limit = AbortSignal.timeout(2_000)
  try {
    const response = await fetch(url, {
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      headers: { connection: 'close' },
    })
    return { status: response.status, body: await response.text() }
  } catch {
    return undefined // not listening yet, or hanging: not ready in either case
  }
}
