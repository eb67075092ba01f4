import type { Ownership } from '@shopstream/messaging'
import { produces } from './produces.ts'
import { catchUp } from './restoring/catch-up.ts'

/** How operators' commands bring this service's tables and its topics together again. It owns no compacted topic. */
export const owns: Ownership = { produces, current: {}, catchUp }
