import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { writeIdentity } from '@shopstream/testing/local'
import { eachLine } from './lines.ts'

export interface ServiceLaunch {
  name: string
  command: string
  args: string[]
  cwd: string
  env: NodeJS.ProcessEnv
  /** Names the process that runs, for a next start to find what a killed stack has left. */
  pidFile: string
  /** Answers 200 when the service is ready. */
  readyUrl: string
  onLine: (line: string) => void
  /** Told when it ends and is started again. */
  onEvent: (event: string) => void
  /** Told once when it keeps dying before it is ready and is not started any more. */
  onGivenUp: (reason: string) => void
  policy?: Partial<RestartPolicy>
}

export interface RestartPolicy {
  /** Deaths in a row before it was ready that end the attempts. */
  deaths: number
  /** Pause before the n-th start again (the first is n = 1) of one that was not ready yet, in ms. */
  pauseMs: (deaths: number) => number
}

const defaultPolicy: RestartPolicy = { deaths: 5, pauseMs: (deaths) => Math.min(100 * 3 ** (deaths - 1), 5_000) }

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

/** Starts a service in a process group of its own and keeps it running: at once after a death, with pauses if it never gets ready. */
export function supervise(launch: ServiceLaunch): SupervisedService {
  const policy = { ...defaultPolicy, ...launch.policy }
  const stopping = new AbortController()
  let child: ChildProcess | undefined
  let restartCount = 0
  let deaths = 0
  let ready = false
  let givenUp = false

  async function keepRunning(): Promise<void> {
    while (!stopping.signal.aborted) {
      ready = false
      const how = await runOnce()
      if (stopping.signal.aborted) return
      deaths = ready ? 0 : deaths + 1
      if (deaths >= policy.deaths) {
        givenUp = true
        launch.onGivenUp(
          `${launch.name} has ${how}, ${deaths} times in a row before it was ready; it is not started again`,
        )
        return
      }
      const pause = policy.pauseMs(Math.max(deaths, 1))
      launch.onEvent(`${launch.name} has ${how}; starting it again${pause >= 1_000 ? ` in ${pause / 1_000} s` : ''}`)
      await delay(pause, undefined, { signal: stopping.signal }).catch(() => {}) // aborted: it is being stopped
      restartCount += 1
    }
  }

  function runOnce(): Promise<string> {
    const started = spawn(launch.command, launch.args, {
      cwd: launch.cwd,
      env: launch.env,
      detached: true, // Ctrl-C in the terminal reaches the stack alone, which stops things in order
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    child = started
    if (started.pid !== undefined) writeIdentity(launch.pidFile, started.pid)
    for (const stream of [started.stdout, started.stderr]) eachLine(stream, launch.onLine)
    const ended = new AbortController()
    void watchReadiness(ended.signal)
    return new Promise((resolve) => {
      const end = (how: string) => {
        ended.abort()
        if (child === started) child = undefined
        resolve(how)
      }
      started.once('error', (error) => end(`not started (${error.message})`))
      started.once('exit', (code, signal) => end(signal ? `been ended by ${signal}` : `ended with code ${code}`))
    })
  }

  async function watchReadiness(ended: AbortSignal): Promise<void> {
    while (!ended.aborted && !ready) {
      const isReady = (await probe(launch.readyUrl, ended))?.status === 200
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
