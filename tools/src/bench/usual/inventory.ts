/** Reserves all lines of an order or none. Environment: core.ts's. */
import { consume, enqueue, relay } from './core.ts'

interface Line {
  sku: string
  quantity: number
}

await consume('usual-inventory', ['usual.order'], async (sql, { type, key, data }) => {
  if (type !== 'OrderPlaced') return
  const lines: Line[] = data.lines
  const skus = lines.map(({ sku }) => sku)
  const { rows } = await sql('select * from stock where sku = any($1) order by sku for update', [skus])
  const free = new Map(rows.map(({ sku, on_hand, reserved }) => [sku, on_hand - reserved]))
  const isThere = lines.every(({ sku, quantity }) => (free.get(sku) ?? 0) >= quantity)
  await sql('insert into reservation values ($1, $2, $3)', [
    key,
    isThere ? 'reserved' : 'rejected',
    JSON.stringify(lines),
  ])
  if (isThere)
    await sql(
      `update stock set reserved = reserved + quantity
       from unnest($1::text[], $2::integer[]) as wanted (sku, quantity) where stock.sku = wanted.sku`,
      [skus, lines.map(({ quantity }) => quantity)],
    )
  await enqueue(sql, 'usual.reservation', isThere ? 'StockReserved' : 'StockRejected', key, { orderId: key, lines })
})
process.stdout.write('serving\n')
await relay()
