import { type Database, sql } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { produces } from '../produces.ts'
import type { Account, Tables } from '../tables.ts'
import { normaliseEmail } from './account.ts'
import { stateOf } from './queries.ts'

/** Accounts of one transaction. */
const batch = 500

/**
 * Rewrites addresses that were stored before domains had one form, and publishes each change; after the first start
 * there are none. If another account has the address in that form, nothing is lost and nobody decides whose mailbox it
 * is: both accounts stay, each logs in with the spelling it was registered with, and no third can be made. Once the
 * other one is erased, the next start rewrites this one as well.
 */
export async function normaliseEmails(database: Database<Tables>, logger: Logger): Promise<void> {
  for (let after: string | undefined = '00000000-0000-0000-0000-000000000000'; after !== undefined; ) {
    const { last, twins } = await normaliseBatch(database, after)
    for (const userId of twins) logger.warn({ userId }, 'two accounts have one mailbox in two spellings; both stay')
    after = last
  }
}

async function normaliseBatch(database: Database<Tables>, after: string) {
  return database.transaction(async (tx) => {
    await sql`select pg_advisory_xact_lock(hashtext('normalise-emails'))`.execute(tx)
    const { rows } = await sql<Account>`
      select * from account
      where id > ${after} and octet_length(split_part(email, '@', 2)) > char_length(split_part(email, '@', 2))
      order by id limit ${batch} for update
    `.execute(tx)
    const twins: string[] = []
    for (const { id, email } of rows) {
      const normal = normaliseEmail(email)
      if (normal === email) continue // not an address by today's rules: it stays as it is
      const { rows: changed } = await sql<Account>`
        update account set email = ${normal}, sequence = sequence + 1
        where id = ${id} and not exists (select from account where email = ${normal}) returning *`.execute(tx)
      if (changed.length === 0) twins.push(id)
      await produces.emit(tx, changed.map(stateOf))
    }
    return { last: rows.at(-1)?.id, twins }
  })
}
