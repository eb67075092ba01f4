import type { Session } from '@shopstream/database'
import type { Owner } from '../shop-access.ts'
import { linesDigest } from './aggregates.ts'

const orderPage = 5_000

/** Page by page, so that neither side holds more than a page in memory. */
export async function copyOrders(
  sessions: ReadonlyMap<Owner, Session>,
  progress: (line: string) => void,
): Promise<void> {
  const [from, to] = [sessions.get('order') as Session, sessions.get('inventory') as Session]
  await to.query('truncate order_seen')
  let copied = 0
  for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
    const page = await from.query<{ key: string; status: string; lines: string; sequence: bigint; changed: Date }>(
      `select id::text as key, status, ${linesDigest} as lines, sequence, updated_at as changed
       from "order" where id > $1 order by id limit ${orderPage}`,
      [after],
    )
    if (page.length === 0) break
    after = page.at(-1)?.key as string
    await to.query(
      'insert into order_seen select * from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::timestamptz[])',
      [
        page.map(({ key }) => key),
        page.map(({ status }) => status),
        page.map(({ lines }) => lines),
        page.map(({ sequence }) => String(sequence)),
        page.map(({ changed }) => changed),
      ],
    )
    copied += page.length
    progress(`${copied} orders copied beside their reservations`)
  }
  await to.query('analyze order_seen')
  await copyArchived(from, to)
}

/** Runs after the orders were copied: an order archived meanwhile is seen in its table, or here. */
async function copyArchived(from: Session, to: Session): Promise<void> {
  await to.query('truncate order_archived')
  for (let after = ''; ; ) {
    const page = await to.query<{ key: string }>(
      `select key from aggregate as r
       where topic = 'shop.reservation.v1' and key > $1 and not exists (select 1 from order_seen as o where o.key = r.key)
       order by key limit ${orderPage}`,
      [after],
    )
    if (page.length === 0) return
    after = page.at(-1)?.key as string
    const archived = await from.query<{ key: string }>('select key::text from archived where key = any($1::uuid[])', [
      page.map(({ key }) => key),
    ])
    await to.query('insert into order_archived select unnest($1::text[])', [archived.map(({ key }) => key)])
  }
}
