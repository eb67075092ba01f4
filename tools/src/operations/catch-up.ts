import { parseArgs } from 'node:util'
import { sql, type Transaction } from '@shopstream/database'
import { type Message, type Ownership, pause } from '@shopstream/messaging'
import { type IncomingMessage, MalformedMessage, readMessage, typeOf } from '@shopstream/messaging/operations'
import { bad, good, plural, shop, table } from '../terminal/format.ts'
import { Refusal } from '../terminal/options.ts'
import { keyInWords, print, shown } from '../terminal/printing.ts'
import { reasonOf } from './answers.ts'
import { readGroups } from './groups.ts'
import { leftOff, rewindGroup } from './rewind.ts'
import { ownershipOf } from './services.ts'
import { type Owner, ownerNamed, type Reach, reachHelp, withReach } from './shop-access.ts'
import { unreadInWords } from './unreadable-stretches.ts'
import { isUuid } from './uuids.ts'

/** How long a transaction may still hide the end of a topic. */
const stableWithinMs = 20_000

export const usage = `Usage: npm run shop -- catch-up SERVICE [--dry-run] [--despite-unreadable]

Brings the database of a service, restored from a backup, up to what the service's own events in the topics say: others
have acted on them. Then rewinds the service's consumer group to where the backup left off, so that it handles again what
it had handled since. All or nothing, and fine to repeat. The service must be stopped, every instance.

  --dry-run             only says what it would do
  --despite-unreadable  goes on although a part of the service's own topics cannot be read: what its events in there said is
                        not brought back, and the service will make other events with their numbers. Look first:
                        docs/runbooks/unreadable-records.md

It waits up to ${stableWithinMs / 1_000} s for a transaction that hides the end of one of these topics, and is refused when that stays open. It says what cannot be brought back. The steps around it: docs/runbooks/restore-a-database.md
Exit code 0, or 1 when it is refused.

${reachHelp}`

/** Ends the transaction of a dry run. */
class DryRun extends Error {}

interface Outcome {
  /** Events that were news, by topic. */
  adopted: [string, number][]
  /** Rows of the restored outbox that were published since. */
  published: number
  lost: string[]
  /** What of the service's own topics could not be read. */
  unread: string[]
}

export async function catchUp(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { 'dry-run': { type: 'boolean' }, 'despite-unreadable': { type: 'boolean' } },
  })
  const owner = ownerNamed(positionals[0])
  const ownership = await ownershipOf(owner)
  const group = (await readGroups()).find((one) => one.group === owner)
  return withReach(async (reach) => {
    await mustBeStopped(reach, owner)
    await mustBeSeen(reach, owner, ownership)
    const isDryRun = values['dry-run'] === true
    const outcome = await adoptAll(reach, owner, ownership, {
      isDryRun,
      despiteUnreadable: isDryRun || values['despite-unreadable'] === true,
    })
    print(outcomeLines(outcome).join('\n'))
    if (isDryRun && outcome.unread.length > 0 && !values['despite-unreadable'])
      print(bad('It would be refused, for what cannot be read: docs/runbooks/unreadable-records.md'))
    if (isDryRun) print('Nothing was changed.')
    else {
      if (group) print(await rewindGroup(reach, group, await leftOff(reach, group)))
      print(good(`Start the ${owner} service, wait until ${shop('status')} finds nothing, then: ${shop('verify')}`))
    }
    return 0
  })
}

function outcomeLines({ adopted, published, lost, unread }: Outcome): string[] {
  return [
    ...table(adopted.map(([topic, count]) => [topic, `${plural(count, 'event')} the database did not know`])),
    ...(published > 0 ? [`  outbox: ${plural(published, 'row')} had been published since the backup`] : []),
    ...[...lost, ...unread.map((what) => `what events said in ${what}`)].map((what) =>
      bad(`  Cannot be brought back: ${what}`),
    ),
  ]
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

/**
 * Throws a Refusal while a transaction hides the end of one of the service's own topics: the service would decide again
 * what stands there. A relay that was killed leaves one open until it times out.
 */
async function mustBeSeen({ bus }: Reach, owner: Owner, ownership: Ownership): Promise<void> {
  const names = ownership.catchUp().topics.map(({ topic }) => topic)
  const ends = await bus.positions(owner, names)
  const deadline = performance.now() + stableWithinMs
  for (;;) {
    const now = new Map(
      (await bus.positions(owner, names)).map((one) => [`${one.topic}/${one.partition}`, one.stableEnd]),
    )
    const hidden = ends.filter(({ topic, partition, end }) => (now.get(`${topic}/${partition}`) ?? 0n) < end)
    if (hidden.length === 0) return
    if (performance.now() > deadline) {
      const where = hidden.map(({ topic, partition }) => `${topic}/${partition}`).join(', ')
      throw new Refusal(
        `A transaction that a producer has left open hides the end of ${where}. End that producer, or wait until Kafka aborts it (15 minutes at the most, as a rule): ${shop('lag --all')} shows it. Nothing was changed.`,
      )
    }
    await pause(500)
  }
}

interface AdoptOptions {
  isDryRun: boolean
  despiteUnreadable: boolean
}

async function adoptAll(
  reach: Reach,
  owner: Owner,
  ownership: Ownership,
  { isDryRun, despiteUnreadable }: AdoptOptions,
): Promise<Outcome> {
  let outcome: Outcome | undefined
  try {
    await reach.databases[owner].transaction(async (tx) => {
      // It waits for Kafka in between, and may read millions of rows.
      await sql`set local idle_in_transaction_session_timeout = 0`.execute(tx)
      await sql`set local statement_timeout = 0`.execute(tx)
      outcome = await adoptTopics(reach.bus, tx, ownership)
      if (outcome.unread.length > 0 && !despiteUnreadable)
        throw new Error(
          `${outcome.unread.join('; ')}. Events of ${owner} may stand there. Look (docs/runbooks/unreadable-records.md), then repeat it with --despite-unreadable`,
        )
      if (isDryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw new Refusal(`Nothing was changed: ${reasonOf(error)}`)
  }
  return outcome as Outcome
}

/** Has an owner's tables take what its topics tell, in a transaction of the caller's. */
export async function adoptTopics(bus: Reach['bus'], tx: Transaction, ownership: Ownership): Promise<Outcome> {
  const run = ownership.catchUp()
  const waiting = await sql<{ id: bigint; event: string }>`select id, headers->>'ce_id' as event from outbox`.execute(
    tx,
  )
  const byEvent = new Map(waiting.rows.map(({ id, event }) => [event, id]))
  const published: bigint[] = []
  const adopted: [string, number][] = []
  const lost: string[] = []
  const unread: string[] = []
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
          count += await adopt(tx, await unarchived(tx, events.slice(start, start + chunk)))
      },
      unreadable: (found) => void unread.push(unreadInWords(found)),
    })
    adopted.push([topic, count])
  }
  await sql`delete from outbox where id = any(${published}::bigint[])`.execute(tx)
  return { adopted, published: published.length, lost: [...lost, ...(await run.settle(tx))], unread }
}

/**
 * An event that can never be read is reported as lost; one whose schema only a newer checkout knows ends the command.
 */
function readOr(lost: string[], message: IncomingMessage): Message[] {
  const { topic, partition, offset, key } = message
  try {
    return [readMessage(message)]
  } catch (error) {
    const where = `${topic}/${partition}@${offset}`
    if (!(error instanceof MalformedMessage))
      throw new Error(`${where} cannot be read: ${reasonOf(error)}; use the newest checkout`, { cause: error })
    lost.push(`what ${where} said of ${keyInWords(key)}, which nobody can read (${shown(error.message)})`)
    return []
  }
}

/** Events that the tables should have: archived rows are not brought back. */
async function unarchived(tx: Transaction, messages: Message[]): Promise<Message[]> {
  const { rows } = await sql<{ key: string; sequence: bigint }>`
    select key::text, sequence from archived
    where sequence is not null and key = any(${messages.map(({ key }) => key).filter(isUuid)}::uuid[])`.execute(tx)
  const known = new Map(rows.map(({ key, sequence }) => [key, sequence]))
  return messages.filter(({ key, sequence }) => sequence > (known.get(key) ?? 0n))
}

/** Messages of one statement. */
const chunk = 1_000

/** What somebody else has written into the topic is no fact about this service's tables. */
const isOwn = ({ value, headers }: IncomingMessage, service: string, own: ReadonlySet<string>) =>
  value !== null && headers.ce_source?.toString() === `/shopstream/${service}` && own.has(typeOf(headers) ?? '')
