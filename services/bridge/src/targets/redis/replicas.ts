import type { Sendable } from '../target.ts'
import type { Open } from './connection.ts'

/** For so long replicas may take to confirm what they were given, in ms. */
const confirmMs = 2_000

/**
 * Waits until replicas hold what was sent as well. While they do not, nothing is sent: else each attempt would add the same
 * events once more. What the others confirm later counts as sent then.
 */
export function createReplicas(wanted: number) {
  /** Ids of what was sent by a connection and is not confirmed; none for one whose replicas have not been asked. */
  const unconfirmed = new WeakMap<Open, Set<string>>()

  async function confirm(open: Open): Promise<void> {
    const confirmed = await open.ask<number>(['WAIT', String(wanted), String(confirmMs)])
    if (confirmed < wanted) throw new Error(`Redis: ${confirmed} of ${wanted} replicas hold what was sent last`)
  }

  return {
    /** Returns what is still to be sent. Throws when too few replicas are there. */
    async before(open: Open, messages: readonly Sendable[]): Promise<readonly Sendable[]> {
      const ids = unconfirmed.get(open)
      if (ids?.size === 0) return messages
      await confirm(open)
      unconfirmed.set(open, new Set())
      return messages.filter(({ id }) => !ids?.has(id))
    },
    /** Throws when what was sent is not on enough replicas yet. */
    async after(open: Open, sent: readonly Sendable[]): Promise<void> {
      unconfirmed.set(open, new Set(sent.map(({ id }) => id)))
      await confirm(open)
      unconfirmed.set(open, new Set())
    },
  }
}
