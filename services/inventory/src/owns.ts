import type { Ownership } from '@shopstream/messaging'
import { currentProducts } from './catalogue/queries.ts'
import { produces } from './produces.ts'
import { catchUp } from './restoring/catch-up.ts'

/** How operators' commands bring this service's tables and its topics together again. */
export const owns: Ownership = { produces, current: { 'shop.product.v1': currentProducts }, catchUp }
