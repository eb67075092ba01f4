import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { repository } from '@shopstream/local-servers'
import type { Ownership } from '@shopstream/messaging'
import { UsageError } from '../terminal/options.ts'
import { type Owner, owners } from './reach.ts'

/** A service's `owns.ts`. */
export async function ownershipOf(owner: Owner): Promise<Ownership> {
  const { owns } = await import(pathToFileURL(join(repository, `services/${owner}/src/owns.ts`)).href)
  return owns as Ownership
}

/** Throws a UsageError for what is no service with a database. */
export function ownerNamed(name: string | undefined): Owner {
  const owner = owners.find((each) => each === name)
  if (!owner) throw new UsageError(`${name ?? 'Which service'}? There are ${owners.join(', ')}.`)
  return owner
}
