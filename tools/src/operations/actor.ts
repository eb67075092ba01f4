import { userInfo } from 'node:os'
import { UsageError } from '../terminal/options.ts'

/** Who decides: as `--actor` says, else SHOP_ACTOR, else the user of this system. Throws a UsageError where nobody knows. */
export function actorOf(actor = process.env.SHOP_ACTOR): string {
  if (actor?.trim()) return actor
  try {
    return userInfo().username
  } catch {
    throw new UsageError('this system does not know its user: say who you are with --actor or SHOP_ACTOR')
  }
}
