import { createHmac, timingSafeEqual } from 'node:crypto'
import { type Database, sql, type Transaction } from '@shopstream/database'
import { lockRecipients } from '../recipients/queries.ts'
import type { Tables } from '../tables.ts'

/** The links by which somebody ends mailings without a login. Each is made of the user's id, signed, and never ends. */
export interface OptOutLinks {
  /** Reads the key; before it, nothing else works. */
  load(): Promise<void>
  /** Undefined without an address that is reachable from outside. */
  linkOf(userId: string): string | undefined
  /** Whose link a token is of; undefined when nobody has signed it. */
  userOf(token: string): string | undefined
}

/** @param publicUrl where the gateway is reached from outside. */
export function createOptOutLinks(database: Database<Tables>, publicUrl: string | undefined): OptOutLinks {
  let key: Buffer | undefined
  const sign = (id: Buffer) => {
    if (!key) throw new Error('the key of opt-out links is not loaded')
    return createHmac('sha256', key).update('mailings').update(id).digest().subarray(0, 16)
  }
  const tokenOf = (userId: string) => {
    const id = Buffer.from(userId.replaceAll('-', ''), 'hex')
    return Buffer.concat([id, sign(id)]).toString('base64url')
  }

  return {
    async load() {
      const { rows } = await sql<{ key: Buffer }>`select key from opt_out_key`.execute(database.query)
      key = rows[0]?.key
    },
    linkOf: (userId) => publicUrl && `${publicUrl.replace(/\/+$/, '')}/v1/mailings/opt-out/${tokenOf(userId)}`,
    userOf(token) {
      const bytes = Buffer.from(token, 'base64url')
      const id = bytes.subarray(0, 16)
      if (bytes.length !== 32 || !timingSafeEqual(bytes.subarray(16), sign(id))) return undefined
      return id.toString('hex').replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
    },
  }
}

/**
 * Writes down whether a user wants mailings, and cancels those that have not gone out if not. The user is locked like
 * `fillNext` does it, so each mailing was queued before, and is cancelled, or sees the choice.
 */
export async function chooseMailings(tx: Transaction<Tables>, userId: string, isWanted: boolean): Promise<void> {
  await lockRecipients(tx, [userId])
  await sql`
    update recipient
    set opted_out_at = ${isWanted ? sql`null` : sql`coalesce(opted_out_at, clock_timestamp())`} where user_id = ${userId}
  `.execute(tx)
  if (isWanted) return
  await sql`
    update notification set state = 'cancelled' where user_id = ${userId} and kind = 'mailing' and state = 'queued'
  `.execute(tx)
}

/** Whether a user wants mailings, as all do who have not said otherwise. */
export async function wantsMailings({ query }: Database<Tables>, userId: string): Promise<boolean> {
  const { rows } = await sql`
    select from recipient where user_id = ${userId} and opted_out_at is not null`.execute(query)
  return rows.length === 0
}

const page = (body: string) => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>shopstream: mailings</title></head><body>
${body}
</body></html>
`

/** Asks, because programs open links of mails too, to look for malware. */
export const confirmationPage = page(`<h1>No more mailings?</h1>
<p>Mails about your orders and your account come all the same.</p>
<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button type="submit">Send me no more mailings</button>
</form>`)

export const optedOutPage = page(`<h1>You get no more mailings</h1>
<p>Mails about your orders and your account come all the same. When you are logged in you can change your mind.</p>`)
