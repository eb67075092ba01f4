import { expect, test } from '@jest/globals'
import { checkAnswers, emailOf, type FinalState, type OrderView, type SeenMail } from './answers.ts'
import type { Attempt, Operation } from './ledger.ts'

const at = '2026-01-01T00:00:00.000Z'
const order: OrderView = {
  id: 'order-1',
  status: 'shipped',
  items: [{ sku: 'common', quantity: 2 }],
  total: { amount: 1_400, currency: 'EUR' },
  reason: null,
  shippingAddress: { line2: 'ada-1' },
  shipment: { trackingNumber: 'staff-1' },
  history: ['pending', 'confirmed', 'shipped'].map((status) => ({ status, at })),
}
const placed = { ...order, status: 'pending', shipment: null, history: order.history.slice(0, 1) }

const attempt = (status: number, more: Partial<Attempt> = {}): Attempt => ({ at, ms: 1, status, ...more })
const noAnswer: Attempt = { at, ms: 1, error: 'ECONNRESET' }
const operation = (kind: Operation['kind'], path: string, attempts: Attempt[], more: Partial<Operation> = {}) =>
  ({ client: 'ada', kind, method: 'POST', path, attempts, ...more }) satisfies Operation

const price = { amount: 700, currency: 'EUR' }
/** What happened in a shop in which all is well. */
function history() {
  return {
    register: operation('register', '/v1/users', [attempt(201, { body: { id: 'user-1' } })]),
    place: operation('order', '/v1/orders', [noAnswer, attempt(201, { body: placed })], { key: 'ada-1' }),
    read: operation('read', '/v1/orders/order-1', [attempt(200, { body: placed })]),
    adjust: operation('adjust', '/v1/stock/common/adjustments', [attempt(201)], {
      key: 'staff-2',
      body: { delta: 5 },
      client: 'staff',
    }),
    product: operation('product', '/v1/products/common', [attempt(200)], { body: { name: 'Common', price } }),
    ship: operation('ship', '/v1/orders/order-1/shipment', [attempt(200, { body: order })], {
      key: 'staff-1',
      client: 'staff',
    }),
    cancel: operation('cancel', '/v1/orders/order-1/cancel', [attempt(409, { code: 'not-cancellable' })], {
      key: 'ada-2',
    }),
  }
}
type History = ReturnType<typeof history>

const mail = (subject: string, more: Partial<SeenMail> = {}): SeenMail => ({
  subject,
  to: [{ address: emailOf('ada') }],
  messageId: subject,
  at: 0,
  ...more,
})
function finalState() {
  return {
    orders: new Map([[order.id, order]]),
    ownOrders: new Map([['ada', new Set([order.id])]]),
    accounts: new Map([['ada', 'user-1']]),
    products: new Map([['common', { name: 'Common', price: price as unknown }]]),
    adjustments: [{ sku: 'common', delta: 5, reason: 'staff-2' }],
    mails: [
      mail('A warm welcome to shopstream'),
      mail('Order confirmed: order-1'),
      mail('Order shipped: order-1'),
      mail('Order shipped: order-1', { at: 20_000 }), // sent again after a crash, with its id
    ],
    mailFaults: [{ from: 1_000, to: 2_000 }],
  } satisfies FinalState
}
type Final = ReturnType<typeof finalState>

const judged = (change: (history: History, final: Final) => void) => {
  const [what, final] = [history(), finalState()]
  change(what, final)
  return checkAnswers(Object.values(what), final)
}

test('answers that stayed true are no discrepancies', () => {
  expect(judged(() => {})).toEqual([])
  const unknown = [0, 15, 45, 105].map((seconds) => confirmed(seconds * 1_000, 'dropped'))
  expect(judged((_, final) => final.mails.splice(1, 1, ...unknown, confirmed(225_000)))).toEqual([])
  expect(judged((_, final) => final.mails.splice(1, 1, ...unknown, confirmed(225_000, 'dropped')))).toEqual([])
})

const confirmed = (at: number, unanswered?: 'late' | 'dropped') =>
  mail('Order confirmed: order-1', { at, ...(unanswered && { unanswered }) })

const setOrder = (final: Final, change: Partial<OrderView>) => final.orders.set(order.id, { ...order, ...change })

test.each<[string, (history: History, final: Final) => void]>([
  ['with order order-1, which is not there', (_, final) => final.orders.clear()],
  [
    'was answered with different ids',
    ({ place }) => place.attempts.push(attempt(201, { body: { ...placed, id: 'b' } })),
  ],
  ['the key ada-1 made 2 orders', (_, final) => final.orders.set('order-2', { ...order, id: 'order-2' })],
  ['which nobody sent', (_, final) => setOrder(final, { shippingAddress: { line2: 'eve-1' } })],
  [
    'was refused each time, but made order order-1',
    ({ place }) => Object.assign(place, { attempts: [attempt(404, { code: 'unknown-product' })] }),
  ],
  ['has other lines or another total', (_, final) => setOrder(final, { items: [] })],
  ['ada cannot see its order order-1', (_, final) => final.ownOrders.clear()],
  ['but it went', (_, final) => setOrder(final, { history: order.history.toSpliced(0, 1) })],
  ['was answered, but the order is confirmed', (_, final) => setOrder(final, { status: 'confirmed' })],
  [
    'was refused for good, but the order is cancelled',
    (_, final) => setOrder(final, { status: 'cancelled', reason: 'reservation-timeout' }),
  ],
  ['which nobody asked for', (_, final) => setOrder(final, { status: 'cancelled', reason: 'a whim' })],
  [
    'is shipped as lost-1, which nobody asked for',
    (_, final) => setOrder(final, { shipment: { trackingNumber: 'lost-1' } }),
  ],
  ['was answered, but is not booked', (_, final) => final.adjustments.pop()],
  ['is booked 2 times', (_, final) => final.adjustments.push({ sku: 'common', delta: 5, reason: 'staff-2' })],
  [
    'was refused, but is booked',
    ({ adjust }) => Object.assign(adjust, { attempts: [attempt(409, { code: 'stock-below-zero' })] }),
  ],
  ['but the product is another', (_, final) => final.products.set('common', { name: 'Other', price })],
  ['but the product is not there', (_, final) => final.products.clear()],
  ['was registered as user-1, but logs in as user-2', (_, final) => final.accounts.set('ada', 'user-2')],
  ['was answered 500', ({ read }) => read.attempts.unshift(attempt(500))],
  ['was answered 404 not-found', ({ read }) => read.attempts.unshift(attempt(404, { code: 'not-found' }))],
  ['ada got no welcome', (_, final) => final.mails.splice(0, 1)],
  ['0 mails with different ids say "Order confirmed: order-1"', (_, final) => final.mails.splice(1, 1)],
  [
    '2 mails with different ids say "Order shipped: order-1"',
    (_, final) => final.mails.push(mail('Order shipped: order-1', { messageId: 'b' })),
  ],
  ['(Order shipped: order-1) was answered, and went out again after 20000 ms', (_, final) => final.mailFaults.pop()],
  [
    ', not answered, went out again after 1000 ms',
    (_, final) => final.mails.push(confirmed(30_000, 'late'), confirmed(31_000, 'late')),
  ],
  [
    'went out 7 times without an answer',
    (_, final) => final.mails.push(...[1, 2, 3, 4, 5, 6, 7].map((n) => confirmed(n * 30_000, 'late'))),
  ],
  [
    '0 mails with different ids say "Order confirmed: order-1"',
    (_, final) => final.mails.splice(1, 1, confirmed(0, 'dropped')),
  ],
  ['of which there is no cause', (_, final) => final.mails.push(mail('Order cancelled: order-1'))],
])('found: %s', (words, change) => {
  expect(judged(change).join('\n')).toContain(words)
})
