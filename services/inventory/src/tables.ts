import type { Generated } from '@shopstream/database'

export interface Line {
  sku: string
  quantity: number
}

export type ReservationState = 'reserved' | 'rejected' | 'released' | 'sold'

export interface Tables {
  product: {
    sku: string
    name: string
    description: string
    price_amount: bigint
    price_currency: string
    retired: Generated<boolean>
    version: number
    sequence: bigint
    updated_at: Generated<Date>
  }
  stock: { sku: string; on_hand: Generated<number>; reserved: Generated<number>; sequence: Generated<bigint> }
  stock_adjustment: {
    id: string
    sku: string
    delta: number
    reason: string
    made_by: string
    made_at: Generated<Date>
  }
  reservation: {
    order_id: string
    state: ReservationState
    lines: Line[]
    sequence: bigint
    updated_at: Generated<Date>
  }
}
