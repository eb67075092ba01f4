/** Tells buyers by mail. Environment: SMTP_PORT, and core.ts's. */
import { setTimeout as delay } from 'node:timers/promises'
import { createTransport } from 'nodemailer'
import { consume, database, enqueue, relay, transaction } from './core.ts'

const smtp = createTransport({ host: '127.0.0.1', port: Number(process.env.SMTP_PORT), pool: true, maxConnections: 5 })

await consume('usual-notification', ['usual.order'], async (sql, { id, type, data }) => {
  if (type !== 'OrderConfirmed') return
  const facts = { order: data.id, total: (data.total / 100).toFixed(2) }
  await sql(
    `insert into notification (customer, kind, cause_id, order_id, facts, subject, state)
     values ($1, 'confirmed', $2, $3, $4, 'Your order is confirmed', 'queued') on conflict (cause_id) do nothing`,
    [data.customer, id, data.id, JSON.stringify(facts)],
  )
})
process.stdout.write('serving\n')

const batchSize = 100

async function send(mail: Record<string, string> & { facts: { order: string; total: string } }): Promise<void> {
  const { id, email, subject, order_id, facts } = mail
  await smtp.sendMail({
    from: 'shop@example.com',
    to: email as string,
    subject: subject as string,
    text: `Thank you for your order ${facts.order}.\n\nTotal: ${facts.total} EUR\n`,
  })
  await transaction(async (sql) => {
    await sql(`update notification set state = 'sent', sent_at = now() where id = $1`, [id])
    await enqueue(sql, 'usual.notification', 'NotificationSent', id as string, { id, orderId: order_id })
  })
}

async function sendMails(): Promise<void> {
  for (;;) {
    const { rows } = await database.query(
      `update notification set attempts = attempts + 1, next_attempt_at = now() + interval '1 minute'
       from recipient
       where id in (select id from notification where state = 'queued' and next_attempt_at <= now()
           order by next_attempt_at limit $1 for update skip locked)
         and recipient.customer = notification.customer
       returning notification.id, recipient.email, subject, order_id, facts`,
      [batchSize],
    )
    await Promise.all(rows.map(send))
    if (rows.length < batchSize) await delay(1_000)
  }
}

await Promise.all([relay(), sendMails()])
