import { type EventName, type EventTypes, type Topic, topics } from '@shopstream/events'
import { type Owner, readServices } from '../services.ts'

/** What an event says about its aggregate, and the same as the aggregate's row has it, so that both can be compared. */
export interface Claim {
  event: EventName
  /** What of the payload is compared; amounts as text, as rows keep them. */
  says(data: never): object
  /** SQL over the row: a jsonb object of the same form. */
  row: string
  /** `always`: as soon as there is the event. `last`: only of the last event, because it changes. */
  holds: 'always' | 'last'
}

/** A table that goes by the events of a topic: the owner's, whose changes are the events, or a replica of another's. */
export interface Holding {
  topic: string
  database: Owner
  table: string
  /** SQL of the key that the topic uses, as text. */
  key: string
  /** SQL of the sequence of the last event that the row knows. */
  sequence: string
  claims: readonly Claim[]
}

/** An aggregate: {@link Holding} of the service that decides about it. */
export interface Aggregate extends Holding {
  /** SQL: when its first event was written at the earliest, and its last; null where the row does not know. */
  born: string
  changed: string
  /** SQL: the types that its last event may have, by the state of the row; null where any will do. */
  lastTypes: string
}

function claim<N extends EventName>(
  event: N,
  holds: Claim['holds'],
  says: (data: EventTypes[N]) => object,
  row: string,
): Claim {
  return { event, says, row, holds }
}

/** Nothing is compared but that it can be read. */
const readable = (event: EventName) => claim(event, 'always', () => ({}), `'{}'::jsonb`)

const money = ({ amount, currency }: { amount: bigint; currency: string }) => ({ amount: String(amount), currency })
const priceRow = `jsonb_build_object('amount', price_amount::text, 'currency', price_currency)`

const profile = ({ email, displayName, roles }: EventTypes['UserRegistered']) => ({ email, displayName, roles })
const profileRow = `jsonb_build_object('email', email, 'displayName', display_name, 'roles', to_jsonb(roles))`

const product = ({ name, description, price, version }: EventTypes['ProductListed']) => ({
  name,
  description,
  version,
  price: money(price),
})
const productRow = `jsonb_build_object('name', name, 'description', description, 'version', version, 'price', ${priceRow})`

const stockLines = ({ lines }: EventTypes['StockReserved']) => ({ lines })
const stockLinesRow = `jsonb_build_object('lines', lines)`

const terms = ({ userId, lines, total }: Pick<EventTypes['OrderPlaced'], 'userId' | 'lines' | 'total'>) => ({
  userId,
  lines: lines.map(({ sku, quantity, unitPrice }) => ({ sku, quantity, unitPrice: money(unitPrice) })),
  total: money(total),
})
const termsRow = `jsonb_build_object('userId', user_id, 'lines', lines,
  'total', jsonb_build_object('amount', total_amount::text, 'currency', total_currency))`

const mail = ({ userId, kind, causeId }: Pick<EventTypes['NotificationSent'], 'userId' | 'kind' | 'causeId'>) => ({
  userId,
  kind,
  causeId,
})
const mailRow = `jsonb_build_object('userId', user_id, 'kind', kind, 'causeId', cause_id)`

/** Who produces and consumes what, as this build has it. */
export const wiring = await readServices()

/** What bridges bring in: rows count the events of each key, and know no more of them. */
const broughtIn = (topic: Topic): Aggregate => ({
  topic: topic.name,
  database: 'bridge',
  table: `(select * from received_key where topic = '${topic.name}') as received_key`,
  key: 'key',
  sequence: 'sequence',
  born: 'born_at',
  changed: 'changed_at',
  lastTypes: 'null::text[]',
  claims: topic.events.map(readable),
})

const topicsOf = (service: Owner): Topic[] => {
  const events = new Set<EventName>(wiring.find((one) => one.service === service)?.produces)
  return topics.filter((topic) => topic.events.some((event) => events.has(event)))
}

/** Every aggregate of the shop, by the topic that tells of it. */
export const aggregates: readonly Aggregate[] = [
  {
    topic: 'shop.user.v1',
    database: 'user',
    table: 'account',
    key: 'id::text',
    sequence: 'sequence',
    born: 'created_at',
    changed: 'created_at',
    lastTypes: 'null::text[]',
    claims: [
      claim('UserRegistered', 'last', profile, profileRow),
      claim('UserProfileChanged', 'last', profile, profileRow),
    ],
  },
  {
    topic: 'shop.signing-key.v1',
    database: 'user',
    table: 'signing_key_pair',
    key: 'id',
    sequence: 'sequence',
    born: 'published_at',
    changed: 'coalesce(retired_at, published_at)',
    lastTypes: `array[case when retired_at is null then 'SigningKeyPublished' else 'SigningKeyRetired' end]`,
    claims: [
      claim(
        'SigningKeyPublished',
        'always',
        ({ publicKey }) => ({ publicKey }),
        `jsonb_build_object('publicKey', public_jwk)`,
      ),
      readable('SigningKeyRetired'),
    ],
  },
  {
    topic: 'shop.product.v1',
    database: 'inventory',
    table: 'product',
    key: 'sku',
    sequence: 'sequence',
    born: 'null::timestamptz',
    changed: 'updated_at',
    lastTypes: `case when retired then array['ProductRetired'] else array['ProductListed', 'ProductChanged'] end`,
    claims: [
      claim('ProductListed', 'last', product, productRow),
      claim('ProductChanged', 'last', product, productRow),
      claim('ProductRetired', 'last', product, productRow),
    ],
  },
  {
    topic: 'shop.stock.v1',
    database: 'inventory',
    table: 'stock',
    key: 'sku',
    sequence: 'sequence',
    born: 'null::timestamptz',
    changed: 'null::timestamptz',
    lastTypes: 'null::text[]',
    claims: [
      claim(
        'StockLevelChanged',
        'last',
        ({ onHand, reserved }) => ({ onHand, reserved }),
        `jsonb_build_object('onHand', on_hand, 'reserved', reserved)`,
      ),
    ],
  },
  {
    topic: 'shop.reservation.v1',
    database: 'inventory',
    table: 'reservation',
    key: 'order_id::text',
    sequence: 'sequence',
    born: 'null::timestamptz',
    changed: 'updated_at',
    lastTypes: `case state when 'reserved' then array['StockReserved'] when 'rejected' then array['StockRejected']
      when 'released' then array['StockReleased'] when 'sold' then array['StockSold'] end`,
    claims: [
      claim('StockReserved', 'always', stockLines, stockLinesRow),
      readable('StockRejected'),
      claim('StockReleased', 'always', stockLines, stockLinesRow),
      claim('StockSold', 'always', stockLines, stockLinesRow),
    ],
  },
  {
    topic: 'shop.order.v1',
    database: 'order',
    table: '"order"',
    key: 'id::text',
    sequence: 'sequence',
    born: 'created_at',
    changed: 'updated_at',
    lastTypes: `case status when 'pending' then array['OrderPlaced'] when 'confirmed' then array['OrderConfirmed']
      when 'rejected' then array['OrderRejected'] when 'shipped' then array['OrderShipped']
      when 'delivered' then array['OrderDelivered'] when 'cancelled' then array['OrderCancelled'] end`,
    claims: [
      claim('OrderPlaced', 'always', terms, termsRow),
      claim('OrderConfirmed', 'always', terms, termsRow),
      readable('OrderRejected'),
      claim(
        'OrderShipped',
        'always',
        ({ carrier, trackingNumber }) => ({ carrier, trackingNumber }),
        `jsonb_build_object('carrier', shipment->'carrier', 'trackingNumber', shipment->'trackingNumber')`,
      ),
      readable('OrderDelivered'),
      claim('OrderCancelled', 'always', ({ reason }) => ({ reason }), `jsonb_build_object('reason', reason)`),
    ],
  },
  {
    topic: 'shop.notification.v1',
    database: 'notification',
    table: 'notification',
    key: 'id::text',
    sequence: 'sequence',
    born: 'created_at',
    changed: 'sent_at',
    lastTypes: `case state when 'sent' then array['NotificationSent'] when 'failed' then array['NotificationFailed'] end`,
    claims: [claim('NotificationSent', 'always', mail, mailRow), claim('NotificationFailed', 'always', mail, mailRow)],
  },
  ...topicsOf('bridge').map(broughtIn),
]

/** The services that consume such an event. */
const readersOf = (isSuch: (event: EventName) => boolean) =>
  wiring.filter(({ consumes }) => consumes.some(({ event }) => isSuch(event))).map(({ service }) => service as Owner)

const signingKeyReplica = (database: Owner): Holding => ({
  topic: 'shop.signing-key.v1',
  database,
  table: 'signing_key',
  key: 'key_id',
  sequence: 'sequence',
  claims: [
    claim(
      'SigningKeyPublished',
      'last',
      ({ publicKey, activeFrom, expiresAt }) => ({
        publicKey: JSON.parse(publicKey),
        retired: false,
        activeFrom: activeFrom.getTime(),
        expiresAt: expiresAt.getTime(),
      }),
      `jsonb_build_object('publicKey', public_key, 'retired', retired,
        'activeFrom', round(extract(epoch from active_from) * 1000), 'expiresAt', round(extract(epoch from expires_at) * 1000))`,
    ),
    claim('SigningKeyRetired', 'last', () => ({ retired: true }), `jsonb_build_object('retired', retired)`),
  ],
})

/** Deployments write every schema again as the first event of its key. */
const schemaReplica = (database: Owner): Holding => ({
  topic: 'shop.schema.v1',
  database,
  table: 'learned_schema',
  key: 'schema_id::text',
  sequence: '1::bigint',
  claims: [],
})

const known = ({ email }: EventTypes['UserRegistered']) => ({ email, erased: false })
const recipientRow = `jsonb_build_object('email', email, 'erased', erased)`

const price = ({ price }: EventTypes['ProductListed']) => ({ price: money(price), retired: false })
const replicaOfProductRow = `jsonb_build_object('retired', retired, 'price', ${priceRow})`

/** Every replica of another service's aggregates. */
export const replicas: readonly Holding[] = [
  {
    topic: 'shop.product.v1',
    database: 'order',
    table: 'product',
    key: 'sku',
    sequence: 'sequence',
    claims: [
      claim('ProductListed', 'last', price, replicaOfProductRow),
      claim('ProductChanged', 'last', price, replicaOfProductRow),
      claim('ProductRetired', 'last', (data) => ({ ...price(data), retired: true }), replicaOfProductRow),
    ],
  },
  {
    topic: 'shop.user.v1',
    database: 'notification',
    table: 'recipient',
    key: 'user_id::text',
    sequence: 'sequence',
    claims: [
      claim('UserRegistered', 'last', known, recipientRow),
      claim('UserProfileChanged', 'last', known, recipientRow),
      claim('UserErased', 'last', () => ({ email: null, erased: true }), recipientRow),
    ],
  },
  ...readersOf((event) => event === 'SigningKeyPublished').map(signingKeyReplica),
  ...readersOf(() => true).map(schemaReplica), // libs/messaging keeps it for whoever consumes anything
]

/** SQL of a digest of a jsonb expression: what is compared instead of the values themselves. */
const digestOf = (jsonb: string) => `md5((${jsonb})::text)::uuid`

/** SQL of a digest of lines, whatever else they hold and however they are sorted: which skus, and how many of each. */
export const linesDigest = `(select ${digestOf(`jsonb_agg(jsonb_build_object('sku', line->'sku', 'quantity', line->'quantity')
  order by line->>'sku')`)} from jsonb_array_elements(lines) as line)`

const rowsOf = ({ claims }: Holding) => [...new Set(claims.map(({ row }) => row))]

/** SQL of the rows of a holding: `key`, `known` (its sequence), and a digest `says_N` of each form that is compared. */
export function rowsSql(holding: Holding, more: Record<string, string> = {}): string {
  const columns = [
    `${holding.key} as key`,
    `${holding.sequence} as known`,
    ...rowsOf(holding).map((row, n) => `${digestOf(row)} as says_${n}`),
    ...Object.entries(more).map(([name, expression]) => `${expression} as ${name}`),
  ]
  return `select ${columns.join(', ')} from ${holding.table}`
}

/** SQL, of a fact `f` and a row `t` of {@link rowsSql} with the same key: whether they contradict each other. */
export function contradicts(holding: Holding): string {
  const rows = rowsOf(holding)
  const cases = holding.claims.map(
    ({ event, row, holds }) =>
      `(f.type = '${event}'${holds === 'last' ? ' and f.sequence = t.known' : ''} and f.says <> t.says_${rows.indexOf(row)})`,
  )
  return cases.length === 0 ? 'false' : `(${cases.join(' or ')})`
}
