import { parseArgs } from 'node:util'
import { topics } from '@shopstream/events'
import type { Ownership } from '@shopstream/messaging'
import { good, plural, shop, table } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { reasonOf } from './answers.ts'
import { ownershipOf } from './services.ts'
import { type Owner, owners, type Reach, reachHelp, withReach } from './shop-access.ts'

export const usage = `Usage: npm run shop -- republish TOPIC|SERVICE (--key KEY | --all) [--dry-run]

Writes the owner's present state to a compacted topic again, through the owner's outbox: for when verify says that the
last record of a key is not what its owner has, or a replica does not know a state. Each event has a new id and the present
sequence, so whoever knows that state ignores it. The service may run meanwhile: rows are locked while they are told.

  --key KEY   of this key: a user's id, a key's id, a sku
  --all       of every key
  --dry-run   only counts what would be written

Exit code 0, or 1 when there is nothing to write.

${reachHelp}`

/** Rows of one transaction: they are locked for that long. */
const batch = 200

export async function republish(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { key: { type: 'string' }, all: { type: 'boolean' }, 'dry-run': { type: 'boolean' } },
  })
  const [name, ...more] = positionals
  if (name === undefined || more.length > 0) throw new UsageError(`republish takes one topic or service.`)
  if ((values.key === undefined) === (values.all !== true)) throw new UsageError('Either --key KEY or --all.')
  const chosen = await choose(name)
  return withReach(async (reach) => {
    const rows: string[][] = []
    let total = 0
    for (const { owner, ownership, topic } of chosen) {
      const written = republishTopic(reach, owner, ownership, topic, values.key, values['dry-run'] === true)
      const count = await written.catch((error) => {
        throw new Refusal(`the ${owner} database refuses: ${reasonOf(error)}`)
      })
      total += count
      rows.push([topic, plural(count, 'event')])
    }
    print(table(rows).join('\n'))
    if (total === 0)
      throw new Refusal(`${name} has no ${values.key === undefined ? 'state' : `key ${values.key}`} to tell.`)
    const place = [...new Set(chosen.map(({ owner }) => owner))].join(', ')
    print(
      values['dry-run']
        ? 'Nothing was written.'
        : good(`In the outbox of ${place}; ${shop('status')} shows when it is published.`),
    )
    return 0
  })
}

/** The compacted topics of this name, or of this service. Throws a Refusal for a topic that is not compacted. */
async function choose(name: string): Promise<{ owner: Owner; ownership: Ownership; topic: string }[]> {
  const all = await Promise.all(
    owners.map(async (owner) => {
      const ownership = await ownershipOf(owner)
      return Object.keys(ownership.current).map((topic) => ({ owner, ownership, topic }))
    }),
  )
  const chosen = all.flat().filter(({ owner, topic }) => owner === name || topic === name)
  if (chosen.length > 0) return chosen
  if (name === 'shop.schema.v1')
    throw new Refusal(`The deployment writes ${name}, each time: npm start, or as it was deployed.`)
  const can = all.flat().map(({ topic }) => topic)
  if (topics.some((topic) => topic.name === name) || owners.some((owner) => owner === name))
    throw new Refusal(
      `${name}: its events tell what happened, not a state, so there is none to tell again. That is in ${can.join(', ')}.`,
    )
  throw new UsageError(`There is no topic or service ${name}. These can be told again: ${can.join(', ')}.`)
}

async function republishTopic(
  { databases }: Reach,
  owner: Owner,
  { current, produces }: Ownership,
  topic: string,
  key: string | undefined,
  dryRun: boolean,
): Promise<number> {
  let total = 0
  for (let after: string | undefined; ; ) {
    const events = await databases[owner].transaction(async (tx) => {
      const told = (await current[topic]?.(tx, { key, after, limit: batch })) ?? []
      if (!dryRun) await produces.emit(tx, told as never)
      return told
    })
    total += events.length
    after = events.at(-1)?.key
    if (events.length < batch || key !== undefined) return total
  }
}
