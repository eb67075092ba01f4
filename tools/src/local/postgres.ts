import { join } from 'node:path'
import { startPostgres } from '@shopstream/local-servers'
import type { ControlledServer } from './kafka.ts'

export interface StackPostgres extends ControlledServer {
  /** Of a role that may create roles and databases. */
  readonly url: string
  readonly origin: string
}

/** Starts the embedded Postgres and returns when it takes connections. */
export async function startStackPostgres(place: {
  home: string
  port: number
  password: string
  progress: (line: string) => void
  onUnexpectedEnd: (how: string) => void
  /** Ends a start that is still going on. */
  signal: AbortSignal
}): Promise<StackPostgres> {
  const { home, ...rest } = place
  const postgres = await startPostgres({ dir: join(home, 'postgres'), superuser: 'shopstream', ...rest })
  return Object.defineProperties(postgres, { origin: { value: 'embedded' } }) as unknown as StackPostgres
}

/** A Postgres that was there before: the stack uses it and leaves it alone. */
export function givenPostgres(url: string): StackPostgres {
  const refuse = async () => {
    throw new Error('this Postgres was not started by the shop (POSTGRES_URL), so the shop does not stop it')
  }
  return { url, origin: 'POSTGRES_URL', pid: undefined, stop: async () => {}, kill: refuse, restart: refuse }
}
