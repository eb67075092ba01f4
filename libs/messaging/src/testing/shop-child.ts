import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { openSession } from '@shopstream/database'
import type { EventName } from '@shopstream/events'
import { cacheFolder, eventually, type SteppedClock } from '@shopstream/testing'
import type { CrashPoint } from '../crash-points.ts'
import { gate } from './stock.ts'

/** An instance in a process of its own. */
export interface ChildShop {
  readonly pid: number
  /** Its log so far, a line each. */
  readonly log: readonly string[]
  /** Whether the very process runs that was started. */
  readonly isAlive: boolean
  /** The signal that has ended it. */
  readonly endedBy: NodeJS.Signals | null
  /** Whether it is stopped, as by SIGSTOP. */
  readonly isStopped: boolean
  /** Sends a signal; waits for the end where the signal ends it. */
  kill(signal: NodeJS.Signals): Promise<void>
}

interface ChildOptions {
  name: string
  url: string
  brokers: string[]
  topicPrefix: string
}

export interface ChildLife {
  clock?: SteppedClock
  /** It dies there. */
  crashAt?: CrashPoint
  /** It grows the topic of an event, as the command does, and does nothing else. */
  grow?: { event: EventName; partitions: number; groups: string[] }
}

/** Starts shop-main.ts. It ends with this process. */
export function startChild(
  { name, url, brokers, topicPrefix }: ChildOptions,
  { clock, crashAt, grow }: ChildLife = {},
): ChildShop {
  const script = join(import.meta.dirname, 'shop-main.ts')
  const child: ChildProcess = spawn(process.execPath, [...(clock?.nodeArgs ?? []), script], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: join(cacheFolder, 'compiled'),
      ...clock?.env,
      ...(crashAt && { SHOPSTREAM_CRASH_AT: crashAt }),
      ...(grow && { GROW: JSON.stringify(grow) }),
      INSTANCE: name,
      DATABASE_URL: url,
      KAFKA_BROKERS: brokers.join(),
      TOPIC_PREFIX: topicPrefix,
    },
    stdio: ['pipe', 'pipe', 'inherit'], // it ends when its input does: whoever started it has died
  })
  const log: string[] = []
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => log.push(line))
  const ended = once(child, 'exit')
  return {
    pid: child.pid as number,
    log,
    get isAlive() {
      return child.exitCode === null && child.signalCode === null
    },
    get endedBy() {
      return child.signalCode
    },
    get isStopped() {
      return execFileSync('ps', ['-o', 'stat=', '-p', String(child.pid)], { encoding: 'utf8' }).startsWith('T')
    },
    async kill(signal) {
      child.kill(signal)
      if (signal !== 'SIGSTOP' && signal !== 'SIGCONT') await ended
    },
  }
}

/** Makes children wait in the middle of a transaction when they come to a `gated…` key, until opened. */
export async function closeGate(url: string) {
  const session = await openSession(url, 'gate', {})
  await session.query('select pg_advisory_lock($1)', [gate])
  return {
    /** Waits until an instance stands at the gate. */
    arrival: (instance: string) =>
      eventually(
        `${instance} at the gate`,
        async () => {
          const waiting = await session.query(
            `select 1 from pg_locks join pg_stat_activity using (pid)
             where locktype = 'advisory' and not granted and application_name = $1`,
            [instance],
          )
          return waiting.length > 0
        },
        { timeoutMs: 120_000 },
      ),
    open: () => session.close(),
  }
}
