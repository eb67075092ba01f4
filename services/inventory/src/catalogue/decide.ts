import type { EventTypes } from '@shopstream/events'

/** What a client may say of a product; the price in minor units. */
export interface ProductDetails {
  name: string
  description: string
  price: { amount: bigint; currency: string }
}

export interface Product extends ProductDetails {
  sku: string
  retired: boolean
  /** Raised by each change that a client can see. */
  version: number
  /** Of the last event about it. */
  sequence: bigint
}

export type ProductEventType = 'ProductListed' | 'ProductChanged' | 'ProductRetired'

/** A product's next state and what to announce; undefined when nothing changes. */
export type Change = { type: ProductEventType; product: Product } | undefined

/** Lists a new product, brings a retired one back, or changes an existing one. */
export function put(current: Product | undefined, sku: string, details: ProductDetails): Change {
  if (!current) return { type: 'ProductListed', product: { sku, ...details, retired: false, version: 1, sequence: 1n } }
  if (!current.retired && sameDetails(current, details)) return undefined
  return {
    type: current.retired ? 'ProductListed' : 'ProductChanged',
    product: next({ ...current, ...details, retired: false }),
  }
}

/** Takes a product off sale. Orders that have it keep it. */
export function retire(current: Product): Change {
  return current.retired ? undefined : { type: 'ProductRetired', product: next({ ...current, retired: true }) }
}

const next = (product: Product): Product => ({
  ...product,
  version: product.version + 1,
  sequence: product.sequence + 1n,
})

const sameDetails = (a: ProductDetails, b: ProductDetails) =>
  a.name === b.name &&
  a.description === b.description &&
  a.price.amount === b.price.amount &&
  a.price.currency === b.price.currency

/** The event's payload: the product's full state. */
export const payloadOf = ({ sku, name, description, price, version }: Product): EventTypes['ProductListed'] => ({
  sku,
  name,
  description,
  price,
  version,
})
