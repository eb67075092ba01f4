import { sql, type Transaction } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import { produces } from '../produces.ts'
import type { Account, Tables } from '../tables.ts'
import type { Registration } from './account.ts'
import { type AccountDeps, register } from './handlers.ts'
import { stateOf } from './queries.ts'
import { staff } from './register.ts'

type Deps = Pick<AccountDeps, 'database' | 'passwords'>

/**
 * The environment says who is staff: the account with its address is made, or gets its password and the role; accounts
 * that it named before lose the role. A new password or a lost role ends sessions (a trigger of `account`). An account
 * that somebody registered stays as it is. Several instances may do so at once.
 */
export async function seedStaff(deps: Deps, wanted: Registration, logger: Logger): Promise<void> {
  const made = await register(deps, wanted, staff)
  if (made) logger.info({ userId: made.id }, 'the staff account was made')
  else await keepStaff(deps, wanted, logger)
  const former = await deps.database.transaction((tx) => takeRole(tx, wanted.email))
  for (const { id: userId } of former) logger.warn({ userId }, 'STAFF_EMAIL names somebody else now: no longer staff')
}

async function keepStaff({ database, passwords }: Deps, { email, password }: Registration, logger: Logger) {
  const found = await database.query.selectFrom('account').selectAll().where('email', '=', email).executeTakeFirst()
  if (!found?.seeded && !found?.roles.includes('staff')) {
    logger.warn('the account with the address of STAFF_EMAIL is an ordinary one and stays it: nobody becomes staff')
    return
  }
  const isRight = await passwords.verify(found.password_hash, password)
  const password_hash = isRight ? found.password_hash : await passwords.hash(password)
  await database.transaction(async (tx) => {
    await tx.updateTable('account').set({ password_hash, seeded: true }).where('id', '=', found.id).execute()
    await giveRole(tx, found.id)
  })
  if (!isRight) logger.info('the staff account has the password of STAFF_PASSWORD now, and its sessions have ended')
}

async function giveRole(tx: Transaction<Tables>, id: string): Promise<void> {
  const { rows } = await sql<Account>`
    update account set roles = array_append(roles, 'staff'), sequence = sequence + 1
    where id = ${id} and not 'staff' = any(roles) returning *`.execute(tx)
  await produces.emit(tx, rows.map(stateOf))
}

/** Takes the role from all that the environment had given it but does not name any more. */
async function takeRole(tx: Transaction<Tables>, email: string): Promise<Account[]> {
  const { rows } = await sql<Account>`
    update account set roles = array_remove(roles, 'staff'), sequence = sequence + 1
    where seeded and 'staff' = any(roles) and email <> ${email} returning *`.execute(tx)
  await produces.emit(tx, rows.map(stateOf))
  return rows
}
