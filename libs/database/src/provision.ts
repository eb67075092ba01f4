import pg from 'pg'

export interface ServiceDatabase {
  /** Name of the service's database and of its role. */
  name: string
  /** The role's password; set anew at every call. */
  password: string
}

const alreadyThere = new Set(['42710', '42P04', '23505'])

/**
 * Makes a role and a database that only this role may connect to; repeating it changes nothing but the password.
 * Returns the URL by which the service connects.
 * @param adminUrl URL of a role that may create roles and databases. Throws what Postgres refuses.
 */
export async function createServiceDatabase(adminUrl: string, { name, password }: ServiceDatabase): Promise<string> {
  const role = pg.escapeIdentifier(name)
  await asAdmin(adminUrl, async (run) => {
    await run(`create role ${role}`, alreadyThere)
    await run(
      `alter role ${role} login nosuperuser nocreatedb nocreaterole noreplication password ${pg.escapeLiteral(password)}`,
    )
    await run(`create database ${role} owner ${role}`, alreadyThere)
    await run(`revoke all on database ${role} from public`)
  })
  const url = new URL(adminUrl)
  url.username = encodeURIComponent(name)
  url.password = encodeURIComponent(password)
  url.pathname = `/${encodeURIComponent(name)}`
  return url.href
}

/** Removes a service's database and role, with whoever is connected to it. For tests. */
export async function dropServiceDatabase(adminUrl: string, name: string): Promise<void> {
  const role = pg.escapeIdentifier(name)
  await asAdmin(adminUrl, async (run) => {
    await run(`drop database if exists ${role} with (force)`)
    await run(`drop role if exists ${role}`)
  })
}

type Run = (statement: string, tolerated?: Set<string>) => Promise<void>

async function asAdmin(adminUrl: string, work: (run: Run) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl, connectionTimeoutMillis: 5_000 })
  await client.connect()
  try {
    await work(async (statement, tolerated) => {
      try {
        await client.query(statement)
      } catch (error) {
        if (!(error instanceof pg.DatabaseError && error.code && tolerated?.has(error.code))) throw error
      }
    })
  } finally {
    await client.end()
  }
}
