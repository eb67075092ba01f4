import { randomBytes } from 'node:crypto'
import { hash, verify } from '@node-rs/argon2'
import { errors } from '../errors.ts'
import { normalisePassword } from './account.ts'

/** argon2id as OWASP's password storage cheat sheet has it: 19 MiB, two passes, one lane; about 25 ms of a core. */
const cost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }

/**
 * Hashes at once, and those waiting for a turn. Two leave half of the thread pool to the rest of Node and hold 38 MiB;
 * a queue of 500 is about 6 s of waiting on two cores, beyond which an answer would come too late to be of use.
 */
const limits = { atOnce: 2, waiting: 500 }

/**
 * Limits guesses. Both functions run within an attempt's turn: of many guesses at once, only the few that run can pass
 * before the limit knows of them.
 */
export interface Guard {
  /** Throws to refuse the attempt. */
  before(): Promise<void>
  /** Notes that the password was wrong. */
  failed(): Promise<void>
}

/** Hashing and verifying of passwords, never more than a few at once. */
export interface Passwords {
  /** The argon2id hash of a password as a PHC string. Throws `busy` when too many are waiting. */
  hash(password: string, signal?: AbortSignal): Promise<string>
  /**
   * Whether `password` is the one that was hashed. Without a hash (nobody has that address) it takes the same time
   * and is false. Throws `busy` when too many are waiting.
   */
  verify(
    passwordHash: string | undefined,
    password: string,
    options?: { signal?: AbortSignal; guard?: Guard },
  ): Promise<boolean>
  /** Those waiting for a turn. */
  waiting(): number
}

/** Makes {@link Passwords}; hashes once, to have something to compare unknown people's passwords with. */
export async function createPasswords(): Promise<Passwords> {
  const turns = bounded(limits)
  const nobodysHash = await hash(randomBytes(32).toString('base64'), cost)
  return {
    hash: (password, signal) => turns.run(() => hash(normalisePassword(password), cost), signal),
    verify: (passwordHash, password, { signal, guard } = {}) =>
      turns.run(async () => {
        await guard?.before()
        const matches = await verify(passwordHash ?? nobodysHash, normalisePassword(password))
        const isRight = matches && passwordHash !== undefined
        if (!isRight) await guard?.failed()
        return isRight
      }, signal),
    waiting: turns.waiting,
  }
}

/**
 * Lets at most `atOnce` pieces of work run and `waiting` wait, first come first served; beyond that `run` throws `busy`,
 * and also for work whose signal was aborted when its turn comes: who asked has gone, or the service stops.
 */
export function bounded(limit: { atOnce: number; waiting: number }) {
  const queue: (() => void)[] = []
  let running = 0

  return {
    async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
      if (running < limit.atOnce) running++
      else if (queue.length < limit.waiting) await new Promise<void>((turn) => queue.push(turn))
      else throw errors.busy()
      try {
        if (signal?.aborted) throw errors.busy()
        return await work()
      } finally {
        const next = queue.shift()
        if (next)
          next() // takes over the place of the one that ends
        else running--
      }
    },
    waiting: () => queue.length,
  }
}
