import { createHmac, randomBytes } from 'node:crypto'

/** What a process that was given the secret answers to a challenge; it holds for this service and this challenge alone. */
export function proofOf(secret: string, service: string, challenge: string): string {
  return createHmac('sha256', secret).update(`${service} ${challenge}`).digest('base64url')
}

/** What is taken for a challenge. */
export const isChallenge = (value: unknown): value is string =>
  typeof value === 'string' && /^[A-Za-z0-9_-]{22,64}$/.test(value)

/** A question, new each time, that only a process with the same SERVICE_IDENTITY_SECRET can answer. */
export interface Challenge {
  /** Where it is asked: `/livez?challenge=…` */
  path: string
  /** Whether the body of the answer holds the proof. */
  isMetBy(body: string): boolean
}

export function challengeFor(secret: string, service: string): Challenge {
  const challenge = randomBytes(24).toString('base64url')
  return {
    path: `/livez?challenge=${challenge}`,
    isMetBy(body) {
      try {
        return JSON.parse(body)?.proof === proofOf(secret, service, challenge)
      } catch {
        return false // whatever answers there
      }
    },
  }
}
