import { isDeepStrictEqual } from 'node:util'
import { effectsOf, type Operation, outcomeOf } from './ledger.ts'

/** An order as the API answers it. */
export interface OrderView {
  id: string
  status: string
  items: { sku: string; quantity: number }[]
  total: { amount: number; currency: string }
  reason: string | null
  shippingAddress: { line2?: string }
  shipment: { trackingNumber: string } | null
  history: { status: string; at: string }[]
}

/** What the shop says when everything is at rest. */
export interface FinalState {
  /** By id, as staff see them. */
  orders: ReadonlyMap<string, OrderView>
  /** Ids of the orders that each customer sees as its own. */
  ownOrders: ReadonlyMap<string, ReadonlySet<string>>
  /** Id of the account that each customer gets into. */
  accounts: ReadonlyMap<string, string>
  products: ReadonlyMap<string, { name: string; price: unknown }>
  /** Every adjustment that inventory has booked; the reason is the key of its request. */
  adjustments: readonly { sku: string; delta: number; reason: string }[]
  /** In the order in which the SMTP server took them. */
  mails: readonly SeenMail[]
  /** When a process that sends or takes mails was killed or stopped, or a second one sent them: an answer may be lost. */
  mailFaults: readonly { from: number; to: number }[]
}

/** Times in ms since 1970. */
export interface SeenMail {
  subject: string
  to: readonly { address: string }[]
  messageId: string
  at: number
  /** How it was left without an answer, so that its sender does not know what became of it. */
  unanswered?: 'late' | 'dropped'
}

/** Email address of a client, for the mails. */
export const emailOf = (client: string) => `${client}@chaos.example`

const mailedStatuses = ['confirmed', 'rejected', 'shipped', 'cancelled']

/** Everything in which the answers that clients got and the final state do not agree, a sentence each. */
export function checkAnswers(operations: readonly Operation[], final: FinalState): string[] {
  const of = (...kinds: Operation['kind'][]) => operations.filter(({ kind }) => kinds.includes(kind))
  return [
    ...of('order').flatMap((operation) => checkTellsSameId(operation)),
    ...checkOrders(byKey(of('order')), final),
    ...operations.flatMap((operation) => checkSeenOrders(operation, final)),
    ...of('cancel', 'ship', 'deliver').flatMap((operation) => checkChange(operation, final)),
    ...checkReasons(operations, final),
    ...checkAdjustments(byKey(of('adjust')), final),
    ...of('product').flatMap((operation) => checkProduct(operation, final)),
    ...of('register', 'login').flatMap((operation) => checkAccount(operation, operations, final)),
    ...operations.flatMap(checkManners),
    ...checkMails(final),
    ...checkCopies(final),
  ]
}

const byKey = (operations: readonly Operation[]) => Map.groupBy(operations, ({ key = '' }) => key)
const told = (operation: Operation) =>
  `${operation.client}: ${operation.method} ${operation.path} (${operation.key ?? 'no key'})`

/** Together, what all requests of one key came to. */
const together = (operations: readonly Operation[]) =>
  outcomeOf({ ...(operations[0] as Operation), attempts: operations.flatMap(({ attempts }) => attempts) })

function checkTellsSameId(operation: Operation): string[] {
  const ids = new Set(effectsOf(operation).map(({ body }) => body.id))
  return ids.size > 1 ? [`${told(operation)} was answered with different ids: ${[...ids].join(', ')}`] : []
}

/** An order answered 201 exists as it was answered, a key made one order at most, and no order comes from nowhere. */
function checkOrders(requests: ReadonlyMap<string, Operation[]>, { orders, ownOrders }: FinalState): string[] {
  const made = Map.groupBy(orders.values(), ({ shippingAddress }) => shippingAddress.line2 ?? '')
  const fromNowhere = [...made.keys()].filter((key) => !requests.has(key))
  const found = fromNowhere.map((key) => `there is an order of key "${key}", which nobody sent`)
  for (const [key, operations] of requests) {
    const [first] = operations as [Operation, ...Operation[]]
    const orders = made.get(key) ?? []
    const answers = operations.flatMap(effectsOf)
    if (orders.length > 1)
      found.push(`the key ${key} made ${orders.length} orders: ${orders.map(({ id }) => id).join(', ')}`)
    if (together(operations) === 'refused' && orders.length > 0)
      found.push(`${told(first)} was refused each time, but made order ${orders[0]?.id}`)
    for (const { body } of answers.slice(0, 1)) {
      const order = orders.find(({ id }) => id === body.id)
      if (!order) found.push(`${told(first)} was answered with order ${body.id}, which is not there`)
      else if (!isDeepStrictEqual([order.items, order.total], [body.items, body.total]))
        found.push(`order ${order.id} has other lines or another total than was answered`)
      if (!ownOrders.get(first.client)?.has(body.id)) found.push(`${first.client} cannot see its order ${body.id}`)
    }
  }
  return found
}

/** Every history of an order that a client was ever shown is the beginning of its final history. */
function checkSeenOrders(operation: Operation, { orders }: FinalState): string[] {
  const seen = effectsOf(operation)
    .flatMap(({ body }) => (body?.items && 'nextCursor' in body ? body.items : [body]))
    .filter((body): body is OrderView => Array.isArray(body?.history))
  return seen.flatMap(({ id, history }) => {
    const last = orders.get(id)?.history
    if (!last) return [`${told(operation)} showed order ${id}, which is not there`]
    return isDeepStrictEqual(history, last.slice(0, history.length))
      ? []
      : [`${told(operation)} showed order ${id} as ${path(history)}, but it went ${path(last)}`]
  })
}

const path = (history: OrderView['history']) => history.map(({ status, at }) => `${status} ${at}`).join(' > ')

const changes: Record<string, { leadsTo: string[]; refusedAs?: string; refusedIn?: string[] }> = {
  cancel: { leadsTo: ['cancelled'], refusedAs: 'not-cancellable', refusedIn: ['rejected', 'shipped', 'delivered'] },
  ship: { leadsTo: ['shipped', 'delivered'] },
  deliver: { leadsTo: ['delivered'] },
}

/** A change that was answered stays; a refusal that nothing can undo is true in the end, too. */
function checkChange(operation: Operation, { orders }: FinalState): string[] {
  const id = /\/v1\/orders\/([^/]+)\//.exec(operation.path)?.[1] ?? ''
  const change = changes[operation.kind]
  const order = orders.get(id)
  if (!order || !change) return [`${told(operation)} is about an order that is not there`]
  const found = []
  if (outcomeOf(operation) === 'done' && !change.leadsTo.includes(order.status))
    found.push(`${told(operation)} was answered, but the order is ${order.status}`)
  if (
    operation.attempts.at(-1)?.code === change.refusedAs &&
    change.refusedIn &&
    !change.refusedIn.includes(order.status)
  )
    found.push(`${told(operation)} was refused for good, but the order is ${order.status}`)
  return found
}

/** An order was cancelled or shipped only by a request of a client, or by its deadline. */
function checkReasons(operations: readonly Operation[], { orders }: FinalState): string[] {
  const wanted = new Set(operations.flatMap(({ kind, key, path }) => (key ? [`${kind} ${path} ${key}`] : [])))
  return [...orders.values()].flatMap(({ id, status, reason, shipment }) => {
    const found = []
    if (
      status === 'cancelled' &&
      reason !== 'reservation-timeout' &&
      !wanted.has(`cancel /v1/orders/${id}/cancel ${reason}`)
    )
      found.push(`order ${id} is cancelled because of "${reason}", which nobody asked for`)
    if (shipment && !wanted.has(`ship /v1/orders/${id}/shipment ${shipment.trackingNumber}`))
      found.push(`order ${id} is shipped as ${shipment.trackingNumber}, which nobody asked for`)
    return found
  })
}

/** An adjustment answered 201 is in the stock, and each key is there once at most. */
function checkAdjustments(requests: ReadonlyMap<string, Operation[]>, { adjustments }: FinalState): string[] {
  const booked = Map.groupBy(adjustments, ({ reason }) => reason)
  return [...requests].flatMap(([key, operations]) => {
    const [first] = operations as [Operation, ...Operation[]]
    const rows = booked.get(key) ?? []
    const outcome = together(operations)
    const { delta } = first.body as { delta: number }
    if (rows.length > 1) return [`${told(first)} is booked ${rows.length} times`]
    if (outcome === 'done' && rows[0]?.delta !== delta) return [`${told(first)} was answered, but is not booked`]
    if (outcome === 'refused' && rows.length > 0) return [`${told(first)} was refused, but is booked`]
    return []
  })
}

function checkProduct(operation: Operation, { products }: FinalState): string[] {
  const { name, price } = operation.body as { name: string; price: unknown }
  const product = products.get(operation.path.slice('/v1/products/'.length))
  if (outcomeOf(operation) !== 'done' || (product?.name === name && isDeepStrictEqual(product.price, price))) return []
  return [`${told(operation)} was answered, but the product is ${product ? 'another' : 'not there'}`]
}

function checkAccount(operation: Operation, all: readonly Operation[], { accounts }: FinalState): string[] {
  const { client, kind, attempts } = operation
  const id = accounts.get(client)
  const answers = effectsOf(operation)
  if (kind === 'login')
    return attempts.some(({ code }) => code === 'invalid-credentials')
      ? [`${told(operation)}: the password was refused`]
      : []
  if (answers.some(({ body }) => body.id !== id))
    return [`${client} was registered as ${answers[0]?.body.id}, but logs in as ${id ?? 'nobody'}`]
  const registrations = all.filter((other) => other.client === client && other.kind === 'register')
  const isTaken = attempts.at(-1)?.code === 'email-taken'
  return isTaken && registrations.flatMap((other) => other.attempts).every(({ status }) => status === 409)
    ? [`the address of ${client} was taken by nobody`]
    : []
}

const expected = new Set([
  'unknown-product', // the order service has not heard of it yet
  'not-cancellable',
  'not-shippable',
  'not-deliverable',
  'stock-below-zero',
  'email-taken',
  'request-in-progress',
  'invalid-token',
])

/**
 * No fault around the shop may cause an error 500, refuse a valid request, or make the shop forget what it answered.
 */
function checkManners(operation: Operation): string[] {
  const rude = operation.attempts.find(
    ({ status = 0, code = '' }) =>
      status === 500 || (status >= 400 && status < 500 && status !== 429 && !expected.has(code)),
  )
  return rude ? [`${told(operation)} was answered ${rude.status} ${rude.code ?? ''} at ${rude.at}`] : []
}

/**
 * What docs/adr/0020-unknown-outcomes-of-mails.md promises: this many attempts at most, with pauses of 15 s or up to a
 * fifth less.
 */
const unknownOutcomes = { attempts: 5, pauseMs: 12_000 }

/** A mail that was answered does not go out again; one that was not does so after a pause, a few times. */
function checkCopies({ mails, mailFaults }: FinalState): string[] {
  return [...Map.groupBy(mails, ({ messageId }) => messageId)].flatMap(([messageId, copies]) => {
    const what = `the mail "${copies[0]?.subject}" (${messageId})`
    const faultsBetween = (one: SeenMail, other: SeenMail) =>
      mailFaults.filter(({ from, to }) => from <= other.at && to >= one.at).length
    const again = copies.slice(1).flatMap((copy, n) => {
      const before = copies[n] as SeenMail
      const afterMs = copy.at - before.at
      if (faultsBetween(before, copy) > 0) return []
      if (!before.unanswered) return [`${what} was answered, and went out again after ${afterMs} ms`]
      return afterMs < unknownOutcomes.pauseMs ? [`${what}, not answered, went out again after ${afterMs} ms`] : []
    })
    const unanswered = copies.filter((copy) => copy.unanswered).length
    const most = unknownOutcomes.attempts + faultsBetween(copies[0] as SeenMail, copies.at(-1) as SeenMail)
    return unanswered > most ? [...again, `${what} went out ${unanswered} times without an answer`] : again
  })
}

/** A mail that was dropped each time may never have arrived; its sender gives it up in the end. */
const hasCome = (copies: readonly SeenMail[]) =>
  copies.some(({ unanswered }) => unanswered !== 'dropped') || copies.length >= unknownOutcomes.attempts

const welcomeSubject = 'A warm welcome to shopstream' // as notification's templates.ts says

/** One mail per cause, counted by Message-ID; none without a cause. */
function checkMails({ orders, accounts, mails }: FinalState): string[] {
  const distinct = [...Map.groupBy(mails, ({ messageId }) => messageId).values()].filter(hasCome)
  const sent = Map.groupBy(
    distinct.flatMap(([mail]) => mail ?? []),
    ({ subject }) => subject,
  )
  const welcomed = new Set((sent.get(welcomeSubject) ?? []).map(({ to }) => to[0]?.address))
  const wanted = new Set<string>([welcomeSubject])
  const found = [...accounts.keys()]
    .filter((client) => client !== 'staff' && !welcomed.has(emailOf(client)))
    .map((client) => `${client} got no welcome`)
  for (const { id, history } of orders.values())
    for (const { status } of history.filter((step) => mailedStatuses.includes(step.status))) {
      const subject = `Order ${status}: ${id}`
      wanted.add(subject)
      const count = sent.get(subject)?.length ?? 0
      if (count !== 1) found.push(`${count} mails with different ids say "${subject}"`)
    }
  const extra = [...sent.keys()].filter((subject) => !wanted.has(subject))
  const welcomes = sent.get(welcomeSubject)?.length ?? 0
  if (welcomes > welcomed.size) found.push(`${welcomes} welcomes went to ${welcomed.size} people`)
  return [...found, ...extra.map((subject) => `a mail says "${subject}", of which there is no cause`)]
}
