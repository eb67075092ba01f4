import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { openSession } from '@shopstream/database'
import { copyAsStandby, eventually, removePostgres, startPostgres } from '@shopstream/local-servers'
import { startTcpProxy } from './tcp-proxy.ts'

/** Two servers behind one address, of which the second is a streaming standby of the first. */
export interface PostgresPair {
  /** Of the superuser, at the address that leads to whichever server takes writes. */
  readonly url: string
  /**
   * As providers do it: the first one takes no writes any more, and keeps its sessions; the second is promoted once it has
   * everything, and the address leads there.
   */
  switchOver(): Promise<void>
  stop(): Promise<void>
}

/** Starts a {@link PostgresPair}, in `one` and `two` of a folder. Nothing is acknowledged that the standby does not have. */
export async function startPostgresPair(dir: string): Promise<PostgresPair> {
  const password = randomBytes(12).toString('hex')
  const settings = { wal_level: 'replica', max_wal_senders: '4' }
  const [one, two] = [join(dir, 'one'), join(dir, 'two')]
  const primary = await startPostgres({
    dir: one,
    password,
    settings: { ...settings, synchronous_standby_names: '*' },
  })
  await primary.stop()
  await copyAsStandby(one, two)
  await primary.restart()
  const source = `host=127.0.0.1 port=${primary.port} user=postgres password=${password}`
  const standby = await startPostgres({ dir: two, password, settings: { ...settings, primary_conninfo: source } })
  const proxy = await startTcpProxy({ target: primary.port })
  const ask = async <Row>(url: string, ...statements: string[]): Promise<Row[]> => {
    const session = await openSession(url, 'failover', {})
    try {
      let rows: Row[] = []
      for (const statement of statements) rows = await session.query<Row>(statement)
      return rows
    } finally {
      await session.close()
    }
  }
  return {
    url: primary.url.replace(`:${primary.port}/`, `:${proxy.port}/`),
    async switchOver() {
      await ask(primary.url, 'alter system set default_transaction_read_only = on', 'select pg_reload_conf()')
      await eventually('the standby to have everything', async () => {
        const [row] = await ask<{ done: boolean }>(
          primary.url,
          'select replay_lsn >= pg_current_wal_lsn() as done from pg_stat_replication',
        )
        return row?.done
      })
      await ask(standby.url, 'select pg_promote()')
      proxy.redirect(standby.port)
    },
    async stop() {
      await proxy.close()
      await Promise.all([primary.stop(), standby.stop()])
      for (const folder of [one, two]) removePostgres(folder)
    },
  }
}
