import { setTimeout as delay } from 'node:timers/promises'
import { Unproven } from './proven-agent.ts'
import type { ServiceName } from './services.ts'
import type { Upstream } from './upstream.ts'

/** What is known of a service from its `/readyz`. */
interface State {
  wasReady: boolean
  /** Why it is not quite well now; undefined when it is. */
  complaint: string | undefined
  /** It works, without a part. */
  isDegraded: boolean
}

/** In ms. Until everything was ready once, somebody waits for the start. */
const pollMs = { starting: 200, running: 2_000 }

interface Readyz {
  status: 'ok' | 'degraded' | 'unavailable'
  checks: { name: string; status: 'ok' | 'failed' }[]
}

/**
 * Polls the services' `/readyz`. Its checks fail until every service was ready once; after that an outage only degrades
 * the gateway, as the other services' routes work.
 * @param onBack is told when a service becomes ready, at first and after each outage.
 */
export function watchServices(upstreams: readonly Upstream[], onBack: (service: ServiceName) => void) {
  const states = new Map<ServiceName, State>()
  const stopping = new AbortController()
  const allWereReady = () => upstreams.every(({ name }) => states.get(name)?.wasReady)

  async function watch(upstream: Upstream): Promise<void> {
    while (!stopping.signal.aborted) {
      const before = states.get(upstream.name)
      const now = await stateOf(upstream, stopping.signal)
      states.set(upstream.name, { ...now, wasReady: now.wasReady || before?.wasReady === true })
      if (now.wasReady && (before === undefined || !isReady(before))) onBack(upstream.name)
      const pause = allWereReady() ? pollMs.running : pollMs.starting
      await delay(pause, undefined, { signal: stopping.signal }).catch(ignoreAbort)
    }
  }

  let watching: Promise<unknown> = Promise.resolve()
  return {
    checks: upstreams.map(({ name }) => ({
      name,
      check() {
        const complaint = states.has(name) ? states.get(name)?.complaint : 'has not been asked yet'
        if (complaint) throw new Error(complaint)
      },
      get optional() {
        return states.get(name)?.isDegraded === true || allWereReady()
      },
    })),
    start() {
      watching = Promise.all(upstreams.map(watch))
    },
    async stop() {
      stopping.abort()
      await watching
    },
  }
}

const isReady = ({ complaint, isDegraded }: State) => complaint === undefined || isDegraded

async function stateOf(upstream: Upstream, signal: AbortSignal): Promise<State> {
  try {
    const { status, body } = await upstream.getJson('/readyz', signal)
    const { status: said, checks } = body as Readyz
    const failed = checks.filter((check) => check.status === 'failed').map(({ name }) => name)
    // Names only: reasons may hold internal addresses, and this is shown outside.
    const complaint = failed.length > 0 ? `without ${failed.join(', ')}` : undefined
    return { wasReady: status === 200, isDegraded: said === 'degraded', complaint }
  } catch (error) {
    // Not lost: the complaint is shown by /readyz, and the next poll asks again.
    const complaint = error instanceof Unproven ? 'does not prove who it is' : 'does not answer'
    return { wasReady: false, isDegraded: false, complaint }
  }
}

function ignoreAbort(error: unknown): void {
  if ((error as Error).name !== 'AbortError') throw error
}
