import lock from '../../../../schemas/registry.lock.json' with { type: 'json' }
import type { LockEntry } from '../schema/lock-entry.ts'

export type { LockEntry }

/** The schema registry that this build was made with. Without the codec, for those who only show it. */
export const registry: readonly LockEntry[] = lock
