/** What the schedule knows of a key. */
export interface ScheduledKey {
  id: string
  /** First use. */
  activeFrom: Date
  /** When the last token it may sign has expired; no use after that. */
  expiresAt: Date
  retired: boolean
}

/** All in ms. */
export interface KeySettings {
  /** How long a key signs before the next one takes over. */
  lifetimeMs: number
  /** How long before its first use a key is published. */
  leadMs: number
  /** How often the schedule is looked at. */
  checkMs: number
  /** How long a token lives. */
  tokenMs: number
}

export type KeyAction = { do: 'publish'; activeFrom: Date; expiresAt: Date } | { do: 'retire'; id: string }

/** Clocks of two processes may differ by this much; a key is valid that much longer than its last token. */
export const clockSkewMs = 60_000

const at = (time: number) => new Date(time)

/** When a key signs for the last time: a token signed then expires, by any clock, before the key does. */
const lastUse = (key: ScheduledKey, settings: KeySettings) => key.expiresAt.getTime() - settings.tokenMs - clockSkewMs

/**
 * The key that signs at `now`: the latest in use whose tokens will expire before it does. For a clock that was set back
 * all keys may lie in the future: then it is the first of them, which others have known the longest.
 * Undefined when there is none, which {@link nextKeyActions} then puts right.
 */
export function signingKey<K extends ScheduledKey>(
  keys: readonly K[],
  now: Date,
  settings: KeySettings,
): K | undefined {
  const able = keys
    .filter((key) => !key.retired && now.getTime() <= lastUse(key, settings))
    .toSorted((one, other) => one.activeFrom.getTime() - other.activeFrom.getTime())
  return able.findLast((key) => key.activeFrom <= now) ?? able[0]
}

/**
 * What is due at `now`. Without a key that can sign, one is published and used at once (the very first, or after an
 * outage longer than a key's life: a token that another service cannot verify for a moment is better than no login).
 * Otherwise the next key is published `leadMs` before its first use, while the one before signs on, and a key is
 * retired when the last token it signed has expired.
 */
export function nextKeyActions(keys: readonly ScheduledKey[], now: Date, settings: KeySettings): KeyAction[] {
  return [...publications(keys, now.getTime(), settings), ...retirements(keys, now.getTime(), settings)]
}

function publications(keys: readonly ScheduledKey[], now: number, settings: KeySettings): KeyAction[] {
  const signing = signingKey(keys, at(now), settings)
  if (!signing) return [publication(now, settings)]
  const newest = Math.max(...keys.filter((key) => !key.retired).map((key) => key.activeFrom.getTime()))
  const handover = newest + settings.lifetimeMs
  // Two checks of reserve, so that the lead is kept although the schedule is looked at only now and then.
  if (now < handover - settings.leadMs - 2 * settings.checkMs) return []
  // Late after an outage: a shorter lead is better than a time without a key that signs.
  const activeFrom = Math.max(handover, Math.min(now + settings.leadMs, lastUse(signing, settings)))
  return [publication(activeFrom, settings)]
}

/** A key lives longer than it is meant to sign by one lead: it signs on when its successor is published late. */
function publication(activeFrom: number, { lifetimeMs, leadMs, tokenMs }: KeySettings): KeyAction {
  return {
    do: 'publish',
    activeFrom: at(activeFrom),
    expiresAt: at(activeFrom + lifetimeMs + leadMs + tokenMs + clockSkewMs),
  }
}

function retirements(keys: readonly ScheduledKey[], now: number, settings: KeySettings): KeyAction[] {
  const signing = signingKey(keys, at(now), settings)
  return keys
    .filter((key) => !key.retired && key !== signing && now >= lastTokenExpires(key, keys, settings))
    .map((key) => ({ do: 'retire', id: key.id }))
}

/** When the last token that a key signed has expired: it stops at its own end or when another takes over. */
function lastTokenExpires(key: ScheduledKey, keys: readonly ScheduledKey[], settings: KeySettings): number {
  const successors = keys
    .filter((other) => other.activeFrom > key.activeFrom)
    .map((other) => other.activeFrom.getTime() + settings.tokenMs + clockSkewMs)
  return Math.min(key.expiresAt.getTime(), ...successors)
}
