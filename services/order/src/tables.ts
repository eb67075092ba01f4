import type { ColumnType } from '@shopstream/database'
import type { OrderStatus, ShippingAddress } from './life-cycle.ts'

/** A jsonb column: read as its value, written as JSON text. */
type Json<T> = ColumnType<T, string, string>

export interface Tables {
  product: { sku: string; price_amount: bigint; price_currency: string; retired: boolean; sequence: bigint }
  order: {
    id: string
    user_id: string
    status: OrderStatus
    lines: Json<StoredLine[]>
    total_amount: bigint
    total_currency: string
    shipping_address: Json<ShippingAddress>
    reason: string | null
    shipment: Json<{ carrier: string; trackingNumber: string } | null> | null
    history: Json<StoredStep[]>
    reservation_deadline: Date
    sequence: bigint
    created_at: Date
    updated_at: Date
  }
}

/** A line as jsonb keeps it: the amount as text, so that no digit is lost. */
export interface StoredLine {
  sku: string
  quantity: number
  unitPrice: { amount: string; currency: string }
}

export interface StoredStep {
  status: OrderStatus
  /** ISO 8601. */
  at: string
}
