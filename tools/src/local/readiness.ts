import { setTimeout as delay } from 'node:timers/promises'
import { challengeFor } from '@shopstream/config'
import { eventually } from '@shopstream/local-servers'
import { type ServiceName, serviceNames, serviceUrl } from './services.ts'
import type { Ports } from './settings.ts'
import { probe } from './supervisor.ts'

export const since = (begun: number) => `after ${((performance.now() - begun) / 1_000).toFixed(1)} s`

/** Whether what listens on a service's port is that service, and no other program that has taken it. */
export async function isGenuine(
  name: ServiceName,
  ports: Ports,
  secret: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { path, isMetBy } = challengeFor(secret, name)
  return isMetBy((await probe(`${serviceUrl(name, ports)}${path}`, signal))?.body ?? '')
}

export interface Awaited {
  /** The services that were started. */
  only: readonly ServiceName[]
  ports: Ports
  identitySecret: string
  /** When the start began, by `performance.now()`. */
  begun: number
  /** In ms. */
  limitMs: number
  progress: (line: string) => void
}

/**
 * For the whole shop it asks the gateway, which asks every service. For a part, each service must listen; what it waits
 * for may be missing. Throws after the limit, unless a database is being migrated: ended by the limit, a long migration
 * would begin again at each start, for ever. Ends with `givenUp` when that is rejected.
 */
export async function waitUntilReady(wanted: Awaited, givenUp: Promise<never>): Promise<void> {
  const { only, ports, identitySecret, limitMs } = wanted
  const isWhole = serviceNames.every((name) => only.includes(name))
  const asked: readonly ServiceName[] = isWhole ? ['gateway'] : only
  const urls = asked.map((name) => `${serviceUrl(name, ports)}${isWhole ? '/readyz' : '/livez'}`)
  const done = new AbortController()
  const report = reportRegularly(wanted, urls, done.signal)
  const isReady = async () => {
    const answers = await Promise.all(urls.map((url) => probe(url, done.signal)))
    if (!answers.every((answer) => answer?.status === 200)) return false
    const genuine = asked.map((name) => isGenuine(name, ports, identitySecret, done.signal))
    return (await Promise.all(genuine)).every(Boolean)
  }
  const ready = (async () => {
    for (;;) {
      try {
        return await eventually('all services to be ready', isReady, { timeoutMs: limitMs, everyMs: 60 })
      } catch (error) {
        const states = await Promise.all(only.map((name) => probe(`${serviceUrl(name, ports)}/readyz`)))
        if (done.signal.aborted || !states.some((state) => state && isMigrating(state.body))) throw error
      }
    }
  })()
  ready.catch(() => {})
  try {
    await Promise.race([ready, givenUp])
  } finally {
    done.abort()
    await report.catch(() => {}) // a report that cannot be told decides nothing
  }
}

/** Says every 5 s what is waited for. */
async function reportRegularly(
  { begun, progress }: Awaited,
  urls: readonly string[],
  stop: AbortSignal,
): Promise<void> {
  while (!stop.aborted) {
    await delay(5_000, undefined, { signal: stop }).catch(() => {}) // aborted: it is ready, or has failed
    if (stop.aborted) return
    const answers = await Promise.all(urls.map((url) => probe(url, stop)))
    if (stop.aborted) return
    const states = answers.map((answer, n) => `${urls[n]} says ${answer?.body ?? 'nothing'}`)
    progress(`still waiting ${since(begun)}: ${states.join('; ')}`)
  }
}

/** Whether `/readyz` of a service says that it is at work on its database, which takes as long as it takes. */
export function isMigrating(body: string): boolean {
  try {
    const { checks } = JSON.parse(body) as { checks: { name: string; status: string }[] }
    const stateOf = (wanted: string) => checks.find(({ name }) => name === wanted)?.status
    return stateOf('start') === 'failed' && stateOf('database') === 'ok'
  } catch {
    return false // not one of ours
  }
}
