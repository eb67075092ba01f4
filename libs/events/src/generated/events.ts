// Written by `npm run generate` from schemas/. Changes made here are lost.

/** An amount of money. Avro: `shopstream.Money`. */
export interface Money {
  /** The amount in minor units of the currency, so 1250 with EUR is 12.50 euros. */
  amount: bigint
  /** ISO 4217 code of three capital letters. */
  currency: string
}

/** A mail was given up on. Avro: `shopstream.notification.NotificationFailed`. */
export interface NotificationFailed {
  /** The notification, and the key of the topic. */
  notificationId: string
  /** Whom it is for. */
  userId: string
  /** Which mail: welcome, confirmed, rejected, shipped or cancelled. */
  kind: string
  /** Id of the event that caused it; one mail is sent per cause. */
  causeId: string
  /** What the mail server or the network said last. */
  reason: string
  /** When it was given up. */
  failedAt: Date
}

/** The mail server took a mail. Avro: `shopstream.notification.NotificationSent`. */
export interface NotificationSent {
  /** The notification, and the key of the topic. */
  notificationId: string
  /** Whom it is for. */
  userId: string
  /** Which mail: welcome, confirmed, rejected, shipped or cancelled. */
  kind: string
  /** Id of the event that caused it; one mail is sent per cause. */
  causeId: string
  /** Message-ID of the mail, stable per cause. */
  messageId: string
  /** When it was taken. */
  sentAt: Date
}

/** An order was called off before it was shipped. Avro: `shopstream.order.OrderCancelled`. */
export interface OrderCancelled {
  /** The order, and the key of its topic. */
  orderId: string
  /** The buyer. */
  userId: string
  /** Why: text of whoever cancelled it, or `reservation-timeout`. */
  reason: string
  /** When it was cancelled. */
  cancelledAt: Date
}

/** All lines of an order are reserved. Avro: `shopstream.order.OrderConfirmed`. */
export interface OrderConfirmed {
  /** The order, and the key of its topic. */
  orderId: string
  /** The buyer. */
  userId: string
  /** What was ordered, 1 to 100 lines. */
  lines: OrderLine[]
  /** Sum of all lines, in their one currency. */
  total: Money
  /** When it was confirmed. */
  confirmedAt: Date
}

/** An order reached its buyer. Avro: `shopstream.order.OrderDelivered`. */
export interface OrderDelivered {
  /** The order, and the key of its topic. */
  orderId: string
  /** The buyer. */
  userId: string
  /** When it arrived. */
  deliveredAt: Date
}

/** One product of an order, each sku once. Avro: `shopstream.order.OrderLine`. */
export interface OrderLine {
  /** The product. */
  sku: string
  /** Pieces ordered, 1 to 10,000. */
  quantity: number
  /** Price of one piece at the time of the order. */
  unitPrice: Money
}

/** An order was accepted and waits for its reservation. Avro: `shopstream.order.OrderPlaced`. */
export interface OrderPlaced {
  /** The order, and the key of its topic. */
  orderId: string
  /** The buyer. */
  userId: string
  /** What was ordered, 1 to 100 lines. */
  lines: OrderLine[]
  /** Sum of all lines, in their one currency. */
  total: Money
  /** When it was accepted. */
  placedAt: Date
  /** An order still waiting then is cancelled. */
  reservationDeadline: Date
}

/** An order cannot be served, because at least one line is short. Avro: `shopstream.order.OrderRejected`. */
export interface OrderRejected {
  /** The order, and the key of its topic. */
  orderId: string
  /** The buyer. */
  userId: string
  /** The lines that are short, at least one. */
  shortages: Shortage[]
  /** When it was rejected. */
  rejectedAt: Date
}

/** An order was handed to a carrier. Avro: `shopstream.order.OrderShipped`. */
export interface OrderShipped {
  /** The order, and the key of its topic. */
  orderId: string
  /** The buyer. */
  userId: string
  /** Who carries it, 1 to 200 characters. */
  carrier: string
  /** The carrier's number of the parcel, 1 to 200 characters. */
  trackingNumber: string
  /** When it was handed over. */
  shippedAt: Date
}

/** A loyalty programme beside the shop has given points to a user. Avro: `shopstream.loyalty.PointsAwarded`. */
export interface PointsAwarded {
  /** The user, and the key of the topic. */
  userId: string
  /** How many were given. */
  points: number
  /** How many the user has now. */
  total: number
  /** What they were given for, as the programme names it, 1 to 100 characters. */
  reason: string
  /** When they were given. */
  awardedAt: Date
}

/** Name, description or price of a product changed. Carries its full state. Avro: `shopstream.product.ProductChanged`. */
export interface ProductChanged {
  /** Stock keeping unit, the product's id: 1 to 64 of A-Z, a-z, 0-9, dot, underscore and hyphen. */
  sku: string
  /** What the product is called. */
  name: string
  /** What it is, in plain text. */
  description: string
  /** Price of one piece. */
  price: Money
  /** Raised with each change of the product, from 1. */
  version: number
}

/** A product is new in the catalogue. Carries its full state. Avro: `shopstream.product.ProductListed`. */
export interface ProductListed {
  /** Stock keeping unit, the product's id: 1 to 64 of A-Z, a-z, 0-9, dot, underscore and hyphen. */
  sku: string
  /** What the product is called. */
  name: string
  /** What it is, in plain text. */
  description: string
  /** Price of one piece. */
  price: Money
  /** Raised with each change of the product, from 1. */
  version: number
}

/** A product left the catalogue and cannot be ordered any more; old orders keep it. Carries its last state. Avro: `shopstream.product.ProductRetired`. */
export interface ProductRetired {
  /** Stock keeping unit, the product's id: 1 to 64 of A-Z, a-z, 0-9, dot, underscore and hyphen. */
  sku: string
  /** What the product is called. */
  name: string
  /** What it is, in plain text. */
  description: string
  /** Price of one piece. */
  price: Money
  /** Raised with each change of the product, from 1. */
  version: number
}

/** A schema that events may be written with from now on, so that older readers can learn it. Its own schema has the pinned id 100001 and never changes. Avro: `shopstream.schema.SchemaRegistered`. */
export interface SchemaRegistered {
  /** Id in the wire format, and the key of the topic. */
  schemaId: number
  /** Full name of the event's record. */
  subject: string
  /** Place among the subject's schemas, from 1. */
  version: number
  /** The Avro schema as JSON text. */
  schema: string
}

/** A line of an order that the stock could not cover. Avro: `shopstream.Shortage`. */
export interface Shortage {
  /** The product that is short. */
  sku: string
  /** Pieces ordered. */
  requested: number
  /** Pieces that could be reserved at that moment. */
  available: number
}

/** A key that access tokens will be signed with. Published some time before its first use. Avro: `shopstream.signing_key.SigningKeyPublished`. */
export interface SigningKeyPublished {
  /** The key, named as `kid` in the header of a token; the key of the topic. */
  keyId: string
  /** JOSE name of the signature algorithm, `EdDSA`. */
  algorithm: string
  /** The public key, a JSON Web Key as JSON text. */
  publicKey: string
  /** No token is signed with it before. */
  activeFrom: Date
  /** No token signed with it is valid after. */
  expiresAt: Date
}

/** A signing key is no longer good; tokens signed with it are refused. Avro: `shopstream.signing_key.SigningKeyRetired`. */
export interface SigningKeyRetired {
  /** The key, and the key of the topic. */
  keyId: string
  /** Since when. */
  retiredAt: Date
}

/** The stock of a product is now this. On hand = reserved + available. Avro: `shopstream.stock.StockLevelChanged`. */
export interface StockLevelChanged {
  /** Stock keeping unit, the product's id: 1 to 64 of A-Z, a-z, 0-9, dot, underscore and hyphen. */
  sku: string
  /** Pieces in the warehouse. */
  onHand: number
  /** Pieces of these that are held for orders. */
  reserved: number
  /** Pieces of these that can still be ordered, never below 0. */
  available: number
}

/** Pieces of one product held for an order. Avro: `shopstream.reservation.StockLine`. */
export interface StockLine {
  /** The product. */
  sku: string
  /** Pieces, at least 1. */
  quantity: number
}

/** Nothing is held for an order, because at least one line is short. Avro: `shopstream.reservation.StockRejected`. */
export interface StockRejected {
  /** The order, and the key of its topic. */
  orderId: string
  /** The lines that are short, at least one. */
  shortages: Shortage[]
}

/** What was held for an order is available again. Avro: `shopstream.reservation.StockReleased`. */
export interface StockReleased {
  /** The order, and the key of its topic. */
  orderId: string
  /** What is no longer held. */
  lines: StockLine[]
  /** Why, as the order's cancellation says. */
  reason: string
}

/** All lines of an order are held in stock. Avro: `shopstream.reservation.StockReserved`. */
export interface StockReserved {
  /** The order, and the key of its topic. */
  orderId: string
  /** What is held. */
  lines: StockLine[]
}

/** What was held for an order has left the warehouse. Avro: `shopstream.reservation.StockSold`. */
export interface StockSold {
  /** The order, and the key of its topic. */
  orderId: string
  /** What was sold. */
  lines: StockLine[]
}

/** A user was erased; replicas forget everything they hold about the user. Avro: `shopstream.user.UserErased`. */
export interface UserErased {
  /** The user, and the key of the topic. */
  userId: string
  /** When the account was erased. */
  erasedAt: Date
}

/** A user changed the profile. Carries the full public state of the user. Avro: `shopstream.user.UserProfileChanged`. */
export interface UserProfileChanged {
  /** The user, and the key of the topic. */
  userId: string
  /** Address that mails go to, in lower case. */
  email: string
  /** Name the user wants to be called by, in any script. */
  displayName: string
  /** What the user may do besides shopping; `staff` runs the shop. */
  roles: string[]
  /** When the account was made. */
  registeredAt: Date
}

/** An account was made. Carries the full public state of the user. Avro: `shopstream.user.UserRegistered`. */
export interface UserRegistered {
  /** The user, and the key of the topic. */
  userId: string
  /** Address that mails go to, in lower case. */
  email: string
  /** Name the user wants to be called by, in any script. */
  displayName: string
  /** What the user may do besides shopping; `staff` runs the shop. */
  roles: string[]
  /** When the account was made. */
  registeredAt: Date
}

/** Every event by its name. */
export interface EventTypes {
  NotificationFailed: NotificationFailed
  NotificationSent: NotificationSent
  OrderCancelled: OrderCancelled
  OrderConfirmed: OrderConfirmed
  OrderDelivered: OrderDelivered
  OrderPlaced: OrderPlaced
  OrderRejected: OrderRejected
  OrderShipped: OrderShipped
  PointsAwarded: PointsAwarded
  ProductChanged: ProductChanged
  ProductListed: ProductListed
  ProductRetired: ProductRetired
  SchemaRegistered: SchemaRegistered
  SigningKeyPublished: SigningKeyPublished
  SigningKeyRetired: SigningKeyRetired
  StockLevelChanged: StockLevelChanged
  StockRejected: StockRejected
  StockReleased: StockReleased
  StockReserved: StockReserved
  StockSold: StockSold
  UserErased: UserErased
  UserProfileChanged: UserProfileChanged
  UserRegistered: UserRegistered
}

export type EventName = keyof EventTypes

/** By event, the fields that a writer may leave out: they have a default. */
export interface EventDefaults {
  NotificationFailed: never
  NotificationSent: never
  OrderCancelled: never
  OrderConfirmed: never
  OrderDelivered: never
  OrderPlaced: never
  OrderRejected: never
  OrderShipped: never
  PointsAwarded: never
  ProductChanged: never
  ProductListed: never
  ProductRetired: never
  SchemaRegistered: never
  SigningKeyPublished: never
  SigningKeyRetired: never
  StockLevelChanged: never
  StockRejected: never
  StockReleased: never
  StockReserved: never
  StockSold: never
  UserErased: never
  UserProfileChanged: never
  UserRegistered: never
}
