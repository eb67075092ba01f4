/**
 * The load generator, a process of its own: clients that send a request as soon as the one before is answered (closed loop).
 * Reads a {@link Plan} as JSON from its input, prints a {@link Load} as JSON.
 */
import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import { json } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

export interface Plan {
  url: string
  /** One client each. */
  clients: { token: string; body: string }[]
  seconds: number
}

export interface Load {
  /** Answers of 2xx. */
  accepted: number
  /** Other answers, by status. */
  refused: Record<string, number>
  seconds: number
  /** From request to answer, of those accepted. */
  milliseconds: { p50: number; p99: number; max: number }
}

const { url, clients, seconds } = (await json(process.stdin)) as Plan
const agent = new Agent({ keepAlive: true, maxSockets: clients.length })
const begun = performance.now()
const latencies: number[] = []
const refused: Record<string, number> = {}

function send({ token, body }: Plan['clients'][number]): Promise<{ status: number; retryAfter: number }> {
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    authorization: `Bearer ${token}`,
    'idempotency-key': randomUUID(),
  }
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'POST', agent, headers }, (answer) => {
      answer.resume()
      answer.once('end', () =>
        resolve({ status: answer.statusCode ?? 0, retryAfter: Number(answer.headers['retry-after'] ?? 0) }),
      )
      answer.once('error', reject)
    })
    sent.once('error', reject)
    sent.end(body)
  })
}

async function client(what: Plan['clients'][number]): Promise<void> {
  while (performance.now() - begun < seconds * 1_000) {
    const sent = performance.now()
    const { status, retryAfter } = await send(what)
    if (status >= 200 && status < 300) latencies.push(performance.now() - sent)
    else {
      refused[status] = (refused[status] ?? 0) + 1
      await delay(Math.max(100, retryAfter * 1_000)) // as a client does that is refused
    }
  }
}

await Promise.all(clients.map(client))
const sorted = latencies.toSorted((a, b) => a - b)
const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
const load: Load = {
  accepted: latencies.length,
  refused,
  seconds: (performance.now() - begun) / 1_000,
  milliseconds: { p50: at(0.5), p99: at(0.99), max: at(1) },
}
process.stdout.write(JSON.stringify(load))
agent.destroy()
