/**
 * The load generator, a process of its own. Closed loop: each client sends a request as soon as the one before is answered.
 * Open loop (`perSecond`): requests begin when they are due, whatever has become of those before, and what each takes counts
 * from then, so that a slow answer cannot hide those that it delays. Reads a {@link Plan} as JSON from its input, prints a
 * {@link Load} as JSON.
 */
import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import { json } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

export interface Plan {
  url: string
  /** Default `POST`. */
  method?: string
  headers?: Record<string, string>
  /** One client each. */
  clients: { token: string; body?: string }[]
  /** How long new requests begin; or, with `requests`, how long at the most. */
  seconds: number
  /** So many in all, each sent again until it is accepted. */
  requests?: number
  /** Of all clients together; without it the loop is closed. */
  perSecond?: number
}

export interface Load {
  /** Answers of 2xx. */
  accepted: number
  /** Other answers, by status; and, by its code, what came of a connection that broke. */
  refused: Record<string, number>
  seconds: number
  /** From request, or from when it was due, to answer, of those accepted. */
  milliseconds: { p50: number; p99: number; max: number }
}

const plan = (await json(process.stdin)) as Plan
const { url, method = 'POST', clients, seconds, requests = Number.POSITIVE_INFINITY, perSecond } = plan
const agent = new Agent({ keepAlive: true, maxSockets: clients.length })
const begun = performance.now()
const latencies: number[] = []
const refused: Record<string, number> = {}
let sent = 0

interface Answer {
  status: number | string
  retryAfter: number
}

function send({ token, body }: Plan['clients'][number], key: string): Promise<Answer> {
  const headers = {
    ...(body !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
    ...(method === 'POST' && { 'idempotency-key': key }),
    authorization: `Bearer ${token}`,
    ...plan.headers,
  }
  return new Promise((resolve) => {
    const broken = (error: NodeJS.ErrnoException) => resolve({ status: error.code ?? error.message, retryAfter: 0 })
    const asked = request(url, { method, agent, headers }, (answer) => {
      answer.resume()
      answer.once('end', () =>
        resolve({ status: answer.statusCode ?? 0, retryAfter: Number(answer.headers['retry-after'] ?? 0) }),
      )
      answer.once('error', broken)
    })
    asked.once('error', broken)
    asked.end(body)
  })
}

/** Until it is accepted, or, without a number of requests, once. */
async function ask(what: Plan['clients'][number], due = performance.now()): Promise<void> {
  const key = randomUUID()
  for (;;) {
    const { status, retryAfter } = await send(what, key)
    if (typeof status === 'number' && status >= 200 && status < 300) {
      latencies.push(performance.now() - due)
      return
    }
    refused[status] = (refused[status] ?? 0) + 1
    await delay(Math.max(100, retryAfter * 1_000)) // as a client does that is refused
    if (!Number.isFinite(requests)) return
  }
}

const isOver = () => performance.now() - begun >= seconds * 1_000 || sent >= requests

async function closedLoop(client: Plan['clients'][number]): Promise<void> {
  while (!isOver()) {
    sent++
    await ask(client)
  }
}

async function openLoop(rate: number): Promise<void> {
  const asked: Promise<void>[] = []
  for (; !isOver(); sent++) {
    const due = begun + (sent / rate) * 1_000
    const early = due - performance.now()
    if (early > 0) await delay(early)
    asked.push(ask(clients[sent % clients.length] as Plan['clients'][number], due))
  }
  await Promise.all(asked)
}

await (perSecond ? openLoop(perSecond) : Promise.all(clients.map(closedLoop)))
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
