/** Limits of every session, in ms. A stopped process must not hold locks, and no statement may run for ever. */
export const sessionLimits = {
  statement_timeout: 15_000,
  lock_timeout: 5_000,
  idle_in_transaction_session_timeout: 5_000,
}

interface Asked {
  query<Row>(text: string, values?: unknown[]): Promise<Row[]>
}

/**
 * Sets the limits on the role, in this database, so that all its sessions begin with them, also those that a pooler
 * opens: poolers refuse them in a login (08P01), and a setting of one transaction would reach another client's. True
 * when they were not set before.
 */
export async function limitRole(session: Asked): Promise<boolean> {
  const limits = Object.entries(sessionLimits).map(([name, ms]) => `${name}=${ms}`)
  const [role] = await session.query<{ limited: boolean; statements: string[] }>(
    `select coalesce((
       select setconfig @> $1 from pg_db_role_setting
       where setrole = current_user::regrole and setdatabase = (select oid from pg_database where datname = current_database())
     ), false) as limited,
     array(select format('alter role %I in database %I set %s', current_user, current_database(), one) from unnest($1::text[]) as one) as statements`,
    [limits],
  )
  if (!role || role.limited) return false
  for (const statement of role.statements) await session.query(statement)
  return true
}
