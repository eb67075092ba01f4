import { parseArgs } from 'node:util'
import { sql, type Transaction } from '@shopstream/database'
import {
  type IncomingMessage,
  MalformedMessage,
  type Message,
  type Ownership,
  readMessage,
} from '@shopstream/messaging'
import { Refusal } from '../options.ts'
import { reasonOf } from './asking.ts'
import { readGroups } from './groups.ts'
import { ownerNamed, ownershipOf } from './ownerships.ts'
import { type Owner, type Reach, reachHelp, withReach } from './reach.ts'
import { leftOff, rewindGroup } from './rewind.ts'
import { bad, good, plural, shop, table } from './words.ts'

export const usage = `Usage: npm run shop -- catch-up SERVICE [--dry-run]

Brings the database of a service, restored from a backup, up to what the service's own events in the topics say: others
have acted on them. Then rewinds the service's consumer group to where the backup left off, so that it handles again what
it had handled since. All or nothing, and fine to repeat. The service must be stopped, every instance.

  --dry-run  only says what it would do

It says what cannot be brought back. The steps around it: docs/runbooks/restore-a-database.md
Exit code 0, or 1 when it is refused. ${reachHelp}`

/** Ends the transaction of a dry run. */
class DryRun extends Error {}

interface Outcome {
  /** Events that were news, by topic. */
  adopted: [string, number][]
  /** Rows of the restored outbox that were published since. */
  published: number
  lost: string[]
}

export async function catchUp(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { 'dry-run': { type: 'boolean' } },
  })
  const owner = ownerNamed(positionals[0])
  const ownership = await ownershipOf(owner)
  const group = (await readGroups()).find((one) => one.group === owner)
  return withReach(async (reach) => {
    await mustBeStopped(reach, owner)
    const { adopted, published, lost } = await adoptAll(reach, owner, ownership, values['dry-run'] === true)
    console.log(
      table(adopted.map(([topic, count]) => [topic, `${plural(count, 'event')} the database did not know`])).join('\n'),
    )
    if (published > 0) console.log(`  outbox: ${plural(published, 'row')} had been published since the backup`)
    for (const what of lost) console.log(bad(`  Cannot be brought back: ${what}`))
    if (values['dry-run']) console.log('Nothing was changed.')
    else {
      if (group) console.log(await rewindGroup(reach, group, await leftOff(reach, group)))
      console.log(
        good(`Start the ${owner} service, wait until ${shop('status')} finds nothing, then: ${shop('verify')}`),
      )
    }
    return 0
  })
}

/** Throws a Refusal while an instance of the service is connected to Kafka or to the database. */
async function mustBeStopped({ bus, databases }: Reach, owner: Owner): Promise<void> {
  const connected = await sql<{ count: number }>`
    select count(*)::integer as count from pg_stat_activity
    where datname = current_database() and application_name in (${owner}, ${`${owner}-relay`})`.execute(
    databases[owner].query,
  )
  const members = await bus.members(owner)
  if (members > 0 || (connected.rows[0]?.count ?? 0) > 0)
    throw new Refusal(
      `The ${owner} service runs (${plural(members, 'member')} of its group, ${plural(connected.rows[0]?.count ?? 0, 'connection')} to its database): stop every instance; one that was killed is forgotten after 6 s. Nothing was changed.`,
    )
}

async function adoptAll(reach: Reach, owner: Owner, ownership: Ownership, dryRun: boolean): Promise<Outcome> {
  let outcome: Outcome | undefined
  try {
    await reach.databases[owner].transaction(async (tx) => {
      // It waits for Kafka in between, and may read millions of rows.
      await sql`set local idle_in_transaction_session_timeout = 0`.execute(tx)
      await sql`set local statement_timeout = 0`.execute(tx)
      outcome = await adoptTopics(reach.bus, tx, ownership)
      if (dryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw new Refusal(`Nothing was changed: ${reasonOf(error)}`)
  }
  return outcome as Outcome
}

async function adoptTopics(bus: Reach['bus'], tx: Transaction, ownership: Ownership): Promise<Outcome> {
  const run = ownership.catchUp()
  const waiting = await sql<{ id: bigint; event: string }>`select id, headers->>'ce_id' as event from outbox`.execute(
    tx,
  )
  const byEvent = new Map(waiting.rows.map(({ id, event }) => [event, id]))
  const published: bigint[] = []
  const adopted: [string, number][] = []
  const lost: string[] = []
  const { service, events: declared } = ownership.produces
  const own = new Set<string>(declared)
  for (const { topic, adopt } of run.topics) {
    let count = 0
    await bus.read({
      topics: [topic],
      toEnd: true,
      async handle(messages) {
        const events = messages
          .filter((message) => isOwn(message, service, own))
          .flatMap((message) => readOr(lost, message))
        published.push(...events.flatMap(({ id }) => byEvent.get(id) ?? []))
        for (let start = 0; start < events.length; start += chunk)
          count += await adopt(tx, events.slice(start, start + chunk))
      },
    })
    adopted.push([topic, count])
  }
  await sql`delete from outbox where id = any(${published}::bigint[])`.execute(tx)
  return { adopted, published: published.length, lost: [...lost, ...(await run.settle(tx))] }
}

/** An event that nobody will ever read is told as lost; one whose schema only a newer checkout knows ends it all. */
function readOr(lost: string[], message: IncomingMessage): Message[] {
  const { topic, partition, offset, key } = message
  try {
    return [readMessage(message)]
  } catch (error) {
    const where = `${topic}/${partition}@${offset}`
    if (!(error instanceof MalformedMessage))
      throw new Error(`${where} cannot be read: ${reasonOf(error)}; use the newest checkout`, { cause: error })
    lost.push(`what ${where} said of ${key}, which nobody can read (${error.message})`)
    return []
  }
}

/** Messages of one statement. */
const chunk = 1_000

/** What somebody else has written into the topic is no fact about this service's tables. */
const isOwn = ({ value, headers }: IncomingMessage, service: string, own: ReadonlySet<string>) =>
  value !== null && String(headers.ce_source) === `/shopstream/${service}` && own.has(String(headers.ce_type))
