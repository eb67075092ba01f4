import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { openSession } from '@shopstream/database'
import { startPostgres, temporaryFolder } from '@shopstream/testing'

const seconds = 3

/**
 * Commits of a single row a second, by one connection, on a Postgres of its own: what the machine's disk and its Postgres do
 * today. Printed with each run, so that a slower machine or setting cannot pass for a better ratio.
 */
export async function yardstick(): Promise<number> {
  const home = temporaryFolder('bench-yardstick')
  const postgres = await startPostgres({ dir: join(home, 'postgres'), password: 'of-a-benchmark' })
  const session = await openSession(postgres.url, 'bench', {})
  try {
    await session.query('create table mark (at timestamptz not null)')
    const begun = performance.now()
    let commits = 0
    for (; performance.now() - begun < seconds * 1_000; commits++)
      await session.query('insert into mark values (now())')
    return commits / ((performance.now() - begun) / 1_000)
  } finally {
    await session.close()
    await postgres.stop()
    rmSync(home, { recursive: true, force: true })
  }
}
