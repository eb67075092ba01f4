/** Postgres by nothing but its client: what references use, and what our own code says to it, written down. */
import pg from 'pg'

export interface Statement {
  text: string
  values: unknown[]
}

export interface Plain {
  /** Prepared by each connection when it is first used. */
  run(statement: Statement): Promise<pg.QueryResult>
  close(): Promise<void>
}

const names = new Map<string, string>()

/** By a name each text is parsed once, and after five times planned no more. */
function nameOf(text: string): string {
  const name = names.get(text) ?? `statement-${names.size}`
  names.set(text, name)
  return name
}

/** So many connections. */
export function connectPlain(url: string, count: number): Promise<Plain[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const client = new pg.Client({ connectionString: url, application_name: 'bench' })
      await client.connect()
      return {
        run: ({ text, values }) =>
          client.query(values.length > 0 ? { name: nameOf(text), text, values } : { text, values }),
        close: () => client.end(),
      }
    }),
  )
}

/** The transactions that this process commits during `work`, those with a statement that `isMeant`, in their order. */
export async function recordTransactions(
  isMeant: (text: string) => boolean,
  work: () => Promise<void>,
): Promise<Statement[][]> {
  const recorded: Statement[][] = []
  const open = new Map<object, Statement[]>()
  const { query } = pg.Client.prototype
  const record = (client: object, { text, values = [] }: Statement) => {
    if (text === 'begin') open.set(client, [])
    const statements = open.get(client)
    statements?.push({ text, values })
    if (text !== 'commit' && text !== 'rollback') return
    open.delete(client)
    if (text === 'commit' && statements?.some((one) => isMeant(one.text))) recorded.push(statements)
  }
  pg.Client.prototype.query = function (this: pg.Client, ...given: [Statement]) {
    if (typeof given[0] === 'object') record(this, given[0])
    return query.apply(this, given as never)
  } as typeof query
  try {
    await work()
  } finally {
    pg.Client.prototype.query = query
  }
  return recorded
}
