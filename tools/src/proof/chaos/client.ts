import { setTimeout as delay } from 'node:timers/promises'
import { type Answer, call } from '../../local/client.ts'
import type { Attempt, Ledger, Operation, OperationKind } from './ledger.ts'

export interface Wish {
  kind: OperationKind
  method: string
  path: string
  body?: unknown
  key?: string
  headers?: Record<string, string>
  /** How long the first attempt may take; later ones have 10 s. */
  patienceMs?: number
  /** Whether it is tried again when no answer came; else whoever asked has gone. */
  persists?: boolean
}

export interface Credentials {
  email: string
  password: string
}

/** One who calls the gateway as good clients do, and writes down every answer. */
export interface Client {
  readonly name: string
  /** Does what is wished, as far as the shop does. Retries with the same key and logs in again as it becomes necessary. */
  perform(wish: Wish): Promise<Operation>
}

const laterPatienceMs = 10_000
/** Longer than any fault takes. */
const persistMs = 90_000

/** @param credentials undefined for one who does nothing that needs an account. */
export function createClient(gatewayUrl: string, ledger: Ledger, name: string, credentials?: Credentials): Client {
  let token: string | undefined

  async function perform(wish: Wish): Promise<Operation> {
    const { kind, method, path, body, key, persists = true } = wish
    const operation: Operation = { client: name, kind, method, path, body, attempts: [], ...(key && { key }) }
    const giveUpAt = performance.now() + persistMs
    for (let failures = 0; ; failures++) {
      const needsToken = credentials && kind !== 'login' && kind !== 'register'
      if (needsToken && token === undefined) token = await login(credentials)
      if (needsToken && token === undefined) break // the shop lets nobody in
      const { attempt, retryAfterMs } = await ask(wish, failures === 0 ? wish.patienceMs : undefined)
      operation.attempts.push(attempt)
      if (isFinal(attempt)) break
      if (attempt.status === 401) token = undefined
      if (!persists || performance.now() > giveUpAt) break
      await delay(retryAfterMs ?? Math.min(2_000, 100 * 2 ** failures))
    }
    ledger.record(kind === 'login' ? withoutSecrets(operation) : operation)
    return operation
  }

  async function login(body: Credentials): Promise<string | undefined> {
    const { attempts } = await perform({ kind: 'login', method: 'POST', path: '/v1/sessions', body })
    return attempts.at(-1)?.body?.accessToken
  }

  async function ask(
    { method, path, body, key, headers }: Wish,
    patienceMs = laterPatienceMs,
  ): Promise<{ attempt: Attempt; retryAfterMs?: number }> {
    const begun = performance.now()
    const at = new Date().toISOString()
    const since = () => Math.round(performance.now() - begun)
    try {
      const answer = await call({ gatewayUrl }, method, path, {
        ...(body !== undefined && { body }),
        token,
        headers: { ...(key && { 'idempotency-key': key }), ...headers },
        signal: AbortSignal.timeout(Math.ceil(patienceMs)), // it takes whole numbers alone, and throws before anything is sent
      })
      const told = answer.status < 300 ? { body: answer.body } : { code: answer.body?.code }
      return { attempt: { at, ms: since(), status: answer.status, ...told }, ...retryAfter(answer) }
    } catch (error) {
      const { name, message, cause } = error as Error
      const reason = (cause as NodeJS.ErrnoException | undefined)?.code ?? (message || name)
      return { attempt: { at, ms: since(), error: reason } }
    }
  }

  return { name, perform }
}

const withoutSecrets = ({ body: _, attempts, ...operation }: Operation): Operation => ({
  ...operation,
  attempts: attempts.map(({ body: __, ...attempt }) => attempt),
})

const retryAfter = ({ headers }: Answer) => {
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  return Number.isFinite(seconds) ? { retryAfterMs: Math.min(seconds * 1_000, 2_000) } : {}
}

/** Whether asking again is of no use. */
function isFinal({ status, code }: Attempt): boolean {
  if (status === undefined || status >= 500 || status === 429) return false
  if (status === 401) return code === 'invalid-credentials'
  return code !== 'request-in-progress'
}
