import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'

/** Ids come from outside into logs and answers, so only harmless ones are taken over. */
const requestId = /^[A-Za-z0-9._:-]{1,128}$/

/** The incoming `X-Request-Id` if it is a valid one, else a new UUID. */
export function requestIdOf(headers: IncomingHttpHeaders): string {
  const id = headers['x-request-id']
  return typeof id === 'string' && requestId.test(id) ? id : randomUUID()
}

/**
 * Seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most 30; undefined where there is none, as the RFC wants
 * preferences that cannot be honoured ignored.
 */
export function waitSecondsOf(headers: IncomingHttpHeaders): number | undefined {
  const prefer = [headers.prefer ?? []].flat().join(',')
  const seconds = Number(/(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])/i.exec(prefer)?.[1])
  return seconds >= 1 ? Math.min(seconds, 30) : undefined
}

/**
 * The client's address, as the gateway says: it overwrites what a client sends as `X-Real-IP`. Without it, the address
 * that the connection came from. `X-Forwarded-For` is for reading only, since a client can put in front of it what it likes.
 */
export function clientAddressOf(headers: IncomingHttpHeaders, connected: string): string {
  const told = headers['x-real-ip']
  return typeof told === 'string' && isIP(told) !== 0 ? told : connected
}
