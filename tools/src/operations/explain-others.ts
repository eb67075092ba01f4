import { domainToASCII } from 'node:url'
import { type Database, sql } from '@shopstream/database'
import { topicOf, topics } from '@shopstream/events'
import { clock, faint, shop, table } from '../terminal/format.ts'
import { Refusal } from '../terminal/options.ts'
import { shopWith } from '../terminal/printing.ts'
import { ask } from './answers.ts'
import { findMails, inOrder, servicesOf } from './explain-order.ts'
import { placesOf } from './partitions-of-key.ts'
import { mask } from './read-event.ts'
import { clockSlackMs, type EventStory, type Gap, type Teller } from './story.ts'
import { eventLines, headline, mailLine, verdictLines } from './story-lines.ts'
import { isUuid } from './uuids.ts'
import { eventsVerdict, gravest, type MailStory, mailVerdict, type Verdict } from './verdict.ts'

/** What a service holds of another's aggregate. */
interface Replica {
  service: string
  /** Sequence of the last event it has applied; null when it holds none, undefined when it cannot be asked. */
  sequence: bigint | null | undefined
  reason?: string
}

/** Events about keys of a topic, published or not, with what became of them. */
async function eventsOf(teller: Teller, sinceByTopic: Record<string, Date>, key: string) {
  const wanted = topics.filter(({ name }) => sinceByTopic[name])
  const [published, waiting] = await Promise.all([
    ask('Kafka', async () => {
      const places = await placesOf(teller.bus, wanted, key)
      const { messages, gaps } = await teller.published(
        places.map((place) => ({ ...place, key, since: sinceByTopic[place.topic] as Date })),
      )
      return { ...(await teller.handlings(messages)), gaps }
    }),
    teller.unpublished({ key }),
  ])
  const events = inOrder([...(published.answer?.events ?? []), ...waiting.rows])
  const gaps = published.answer?.gaps ?? []
  const notAsked = [...(published.reason ? [`Kafka ${published.reason}`] : []), ...gaps.map(({ what }) => what)]
  return { events, notAsked, gaps }
}

/** A replica that is behind its owner, although nothing is on its way to it. */
function replicaVerdict(
  replicas: Replica[],
  { sequence, topic, key, gaps }: { sequence: bigint; topic: string; key: string; gaps: readonly Gap[] },
): Verdict | undefined {
  const stale = replicas.find((replica) => replica.sequence !== undefined && (replica.sequence ?? 0n) < sequence)
  if (!stale) return undefined
  const behind = `${stale.service} knows state ${stale.sequence ?? 'none'}, the owner has ${sequence}`
  if (gaps.length > 0)
    return {
      state: 'stuck',
      text: `${behind}, and not all can be read that may be on its way: ${gaps.map(({ what }) => what).join('; ')}.`,
      run: [...new Set(gaps.map(({ run }) => run))],
    }
  return {
    state: 'stuck',
    text: `${behind}, and nothing is on its way.`,
    run: [shopWith(`republish ${topic} --key`, key) ?? shop(`republish ${topic} --all`)],
  }
}

const isOnItsWay = (events: readonly EventStory[]) =>
  events.some(({ inOutbox, handledBy }) => inOutbox || handledBy.some(({ state }) => state === 'lagging'))

const replicaOf = async (service: string, query: Promise<{ rows: { sequence: bigint }[] }>): Promise<Replica> => {
  const { answer, reason } = await ask(`the ${service} database`, async () => (await query).rows[0]?.sequence ?? null)
  return reason ? { service, sequence: undefined, reason } : { service, sequence: answer }
}

const replicaLine = ({ service, sequence, reason }: Replica) =>
  `  ${service} knows ${reason ?? (sequence === null ? 'nothing of it' : `its state ${sequence}`)}`

export interface UserStory {
  kind: 'user'
  id: string
  account: { email: string; displayName: string; roles: string[]; sequence: bigint; createdAt: Date }
  replicas: Replica[]
  events: EventStory[]
  mails: MailStory[]
  orders: { id: string; status: string; createdAt: Date }[]
  notAsked: string[]
  verdict: Verdict
}

/** Of those that may be many, the latest are shown. */
const shownEvents = 12
const pointsTopic = topicOf('PointsAwarded').name

/** Throws a Refusal when there is no such account. */
export async function tellUser(teller: Teller, idOrEmail: string, now = new Date()): Promise<UserStory> {
  const { databases, personal } = teller
  const found = await ask('the user database', () => findAccount(databases.user, idOrEmail))
  if (found.reason) throw new Refusal(`The user database ${found.reason}.`)
  if (!found.answer) throw new Refusal(`There is no user ${idOrEmail}.`)
  const { id, ...account } = found.answer
  const topic = topicOf('UserRegistered').name
  const since = new Date(account.createdAt.getTime() - clockSlackMs)
  const [{ events: all, notAsked, gaps }, recipient, mails, orders] = await Promise.all([
    eventsOf(teller, { [topic]: since, [pointsTopic]: since }, id),
    replicaOf(
      'notification',
      sql<{ sequence: bigint }>`select sequence from recipient where user_id = ${id}`.execute(
        databases.notification.query,
      ),
    ),
    ask('the notification database', () => findMails(databases.notification, sql`user_id = ${id}`, 10)),
    ask('the order database', () => latestOrders(databases.order, id)),
  ])
  const told = mails.answer ?? []
  const points = all.filter((event) => event.topic === pointsTopic)
  const events = all.filter((event) => !points.includes(event) || points.indexOf(event) >= points.length - shownEvents)
  const services = await servicesOf(teller, events, told)
  const verdict = gravest(
    [
      eventsVerdict(events, services, now),
      ...told.map((mail) => mailVerdict(mail, services, now)),
      replicaVerdict(isOnItsWay(events.filter((event) => event.topic === topic)) ? [] : [recipient], {
        sequence: account.sequence,
        topic,
        key: id,
        gaps,
      }),
    ].filter((one) => one !== undefined),
  ) ?? { state: 'final', text: 'Everybody who keeps this user knows the latest state, and no mail waits.', run: [] }
  return {
    kind: 'user',
    id,
    account: personal ? account : { ...account, email: mask, displayName: mask },
    replicas: [recipient],
    events,
    mails: told,
    orders: orders.answer ?? [],
    notAsked: [...notAsked, ...[mails, orders].flatMap(({ reason }) => reason ?? [])],
    verdict,
  }
}

async function findAccount({ query }: Database<unknown>, idOrEmail: string) {
  const column = sql.ref(isUuid(idOrEmail) ? 'id' : 'email')
  const folded = idOrEmail.trim().normalize('NFKC').toLowerCase()
  const stored = folded.replace(/(?<=@)[^@]+$/, domainToASCII)
  const { rows } = await sql<UserStory['account'] & { id: string }>`
    select id, email, display_name "displayName", roles, sequence, created_at "createdAt"
    from account where ${column} in (${folded}, ${stored}) order by ${column} = ${folded} desc`.execute(query)
  return rows[0]
}

async function latestOrders({ query }: Database<unknown>, userId: string) {
  const { rows } = await sql<UserStory['orders'][number]>`
    select id, status, created_at "createdAt" from "order" where user_id = ${userId} order by id desc limit 5`.execute(
    query,
  )
  return rows
}

export function userScreen({ id, account, replicas, events, mails, orders, notAsked, verdict }: UserStory): string {
  const now = new Date()
  return [
    headline(`User ${id}`, account.roles.join(', '), verdict),
    `  ${account.displayName} <${account.email}>, registered ${clock(account.createdAt, now)}, state ${account.sequence}`,
    ...replicas.map(replicaLine),
    '',
    ...events.flatMap((event) => eventLines(event, now)),
    ...table(mails.map((mail) => mailLine(mail, now))),
    ...table(
      orders.map((order) => [
        `${clock(order.createdAt, now)}  order ${order.id}`,
        order.status,
        shop(`explain ${order.id}`),
      ]),
    ),
    ...notAsked.map((what) => faint(`  ${what}`)),
    '',
    ...verdictLines(verdict),
  ].join('\n')
}

export interface ProductStory {
  kind: 'product'
  id: string
  product: { name: string; retired: boolean; sequence: bigint; version: number }
  stock: { onHand: number; reserved: number; sequence: bigint; heldForOrders: number; accountedFor: number }
  replicas: Replica[]
  events: EventStory[]
  notAsked: string[]
  verdict: Verdict
}

const stockTopic = topicOf('StockLevelChanged').name
/** Each order changes its products' levels: the older ones are for `tail`. */
const recentMs = 3_600_000

/** Throws a Refusal when there is no such product. */
export async function tellProduct(teller: Teller, sku: string, now = new Date()): Promise<ProductStory> {
  const { databases } = teller
  const found = await ask('the inventory database', () => findProduct(databases.inventory, sku))
  if (found.reason) throw new Refusal(`The inventory database ${found.reason}.`)
  if (!found.answer) throw new Refusal(`There is no product ${sku}.`)
  const { product, stock } = found.answer
  const topic = topicOf('ProductListed').name
  const [{ events, notAsked, gaps }, replica] = await Promise.all([
    eventsOf(teller, { [topic]: new Date(0), [stockTopic]: new Date(now.getTime() - recentMs) }, sku),
    replicaOf(
      'order',
      sql<{ sequence: bigint }>`select sequence from product where sku = ${sku}`.execute(databases.order.query),
    ),
  ])
  const services = await servicesOf(teller, events, [])
  const unequal: Verdict | undefined =
    stock.reserved === stock.heldForOrders && stock.onHand === stock.accountedFor
      ? undefined
      : {
          state: 'stuck',
          text:
            `The stock says ${stock.onHand} on hand and ${stock.reserved} reserved; by adjustments, sales and reservations ` +
            `it is ${stock.accountedFor} and ${stock.heldForOrders}.`,
          run: [shop('verify --only stock-level'), 'docs/runbooks/stock-level.md'],
        }
  const verdict = gravest(
    [
      eventsVerdict(events, services, now),
      replicaVerdict(isOnItsWay(events) ? [] : [replica], { sequence: product.sequence, topic, key: sku, gaps }),
      unequal,
    ].filter((one) => one !== undefined),
  ) ?? {
    state: 'final',
    text: 'Everybody who keeps this product knows the latest state, and its stock adds up.',
    run: [],
  }
  return {
    kind: 'product',
    id: sku,
    product,
    stock,
    replicas: [replica],
    events: events.slice(-shownEvents),
    notAsked,
    verdict,
  }
}

async function findProduct({ query }: Database<unknown>, sku: string) {
  const { rows } = await sql<ProductStory['product'] & ProductStory['stock'] & { stockSequence: bigint }>`
    select name, retired, product.sequence, version, on_hand "onHand", reserved, stock.sequence "stockSequence",
      (select coalesce(sum((line->>'quantity')::integer), 0)::integer
       from reservation, jsonb_array_elements(reservation.lines) as line
       where state = 'reserved' and line->>'sku' = product.sku) "heldForOrders",
      ((select coalesce(sum(delta), 0) from stock_adjustment where stock_adjustment.sku = product.sku)
       - (select coalesce(sum((line->>'quantity')::integer), 0)
          from reservation, jsonb_array_elements(reservation.lines) as line
          where state = 'sold' and line->>'sku' = product.sku))::integer "accountedFor"
    from product join stock using (sku) where sku = ${sku}`.execute(query)
  const [row] = rows
  if (!row) return undefined
  const { onHand, reserved, stockSequence, heldForOrders, accountedFor, ...product } = row
  return { product, stock: { onHand, reserved, sequence: stockSequence, heldForOrders, accountedFor } }
}

export function productScreen({ id, product, stock, replicas, events, notAsked, verdict }: ProductStory): string {
  const now = new Date()
  return [
    headline(`Product ${id}`, product.retired ? 'retired' : 'on sale', verdict),
    `  ${product.name}, version ${product.version}, state ${product.sequence}`,
    `  ${stock.onHand} on hand, ${stock.reserved} reserved, ${stock.onHand - stock.reserved} available`,
    ...replicas.map(replicaLine),
    '',
    ...events.flatMap((event) => eventLines(event, now)),
    ...notAsked.map((what) => faint(`  ${what}`)),
    '',
    ...verdictLines(verdict),
  ].join('\n')
}
