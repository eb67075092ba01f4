import { parseArgs } from 'node:util'
import { sql } from '@shopstream/database'
import { deadLetterTopic, type Topic, topicOf, topics } from '@shopstream/events'
import { CannotGrow, countOf, type GrowthStep, growTopic } from '@shopstream/messaging/operations'
import { good, plural, table } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { untilInterrupted } from '../terminal/repeat.ts'
import { reasonOf } from './answers.ts'
import { readGroups } from './groups.ts'
import { lagOf } from './lag.ts'
import { readServices } from './services.ts'
import { type Owner, owners, type Reach, reachHelp, withReach } from './shop-access.ts'

const mostPartitions = 1_000

export const usage = `Usage: npm run shop -- grow TOPIC --partitions N [options]

Gives a topic more partitions while everything runs, and keeps the order of each key: the topic's events wait in the outbox
of the service that produces them, every group comes to its end, the partitions are added, and events go on by the new
number. It takes seconds where no group is behind. There is no way back to fewer.

  --partitions N     how many it is to have in all, ${mostPartitions} at the most
  --group GROUP      a group of another's, whose order counts as well; may be given several times
  --timeout SECONDS  so long may groups take to come to the end; then nothing is changed. Default: 300
  --dry-run          only says what would be done, and who is behind

All instances of the service must be of this version. A command that was killed is repeated as it was: until then
the topic's events wait. Who else writes to the topic must stop meanwhile. Nothing is changed while something in the topic
cannot be read and nobody has decided that every group may step over it (unreadable step-over); where the services read it by
a KAFKA_BATCH_LIMIT_BYTES above the default, this command needs the same. See docs/adr/0024-growing-a-topic.md.
Exit code 0, or 1 when it is refused.

${reachHelp}`

const steps: Record<GrowthStep, string> = {
  held: 'its events wait in the outbox',
  drained: 'every group has come to its end',
  added: 'it has its partitions',
  moved: 'the states of keys that have another partition now are there',
  grown: 'its events go on, by the new number',
}

export async function grow(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      partitions: { type: 'string' },
      group: { type: 'string', multiple: true },
      timeout: { type: 'string' },
      'dry-run': { type: 'boolean' },
    },
  })
  const [name, ...more] = positionals
  if (name === undefined || more.length > 0) throw new UsageError(`grow takes one topic.`)
  const partitions = wholeNumber('--partitions', values.partitions, mostPartitions)
  const seconds = values.timeout === undefined ? 300 : wholeNumber('--timeout', values.timeout, 86_400)
  const { topic, owner } = await topicNamed(name)
  const consuming = (await readGroups()).filter((one) => one.topics.includes(name)).map(({ group }) => group)
  const groups = [...new Set([...consuming, ...(values.group ?? [])])]
  return withReach(async (reach) => {
    const count = await tellPlan(reach, { topic, owner, groups, partitions })
    if (partitions < count) throw new Refusal(`${name} has ${count} partitions, and can have no fewer.`)
    if (values['dry-run']) {
      print('Nothing was changed.')
      return 0
    }
    const growing = growTopic({
      bus: reach.bus,
      database: reach.databases[owner],
      topic,
      partitions,
      groups,
      databases: reach.databases,
      patienceMs: seconds * 1_000,
      signal: untilInterrupted(),
      told: (step) => print(`  ${steps[step]}`),
    })
    await growing.catch((error) => {
      if (error instanceof CannotGrow) throw new Refusal(`${error.message}.`)
      throw new Refusal(`${reasonOf(error)}. Until this is repeated, the events of ${name} may wait.`)
    })
    print(good(`${name} has ${partitions} partitions.`))
    return 0
  })
}

function wholeNumber(option: string, text: string | undefined, most: number): number {
  const number = Number(text)
  if (text === undefined || !Number.isInteger(number) || number < 1 || number > most)
    throw new UsageError(`${option} takes a whole number from 1 to ${most}${text === undefined ? '' : `, not ${text}`}`)
  return number
}

/** A topic and the service whose outbox its events come from. */
async function topicNamed(name: string): Promise<{ topic: Topic; owner: Owner }> {
  const wiring = await readServices()
  for (const owner of owners) {
    const produces = wiring.find(({ service }) => service === owner)?.produces ?? []
    const topic = [...produces.map((event) => topicOf(event as never)), deadLetterTopic(owner)].find(
      (one) => one.name === name,
    )
    if (topic) return { topic, owner }
  }
  if (topics.some((topic) => topic.name === name))
    throw new Refusal(`${name} comes from no service's outbox; it has a few messages, and needs no more partitions.`)
  throw new UsageError(`There is no topic ${name}. There are: ${topics.map((topic) => topic.name).join(', ')}.`)
}

interface Plan {
  topic: Topic
  owner: Owner
  groups: readonly string[]
  partitions: number
}

async function tellPlan({ bus, databases }: Reach, { topic, owner, groups, partitions }: Plan): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from outbox where topic = ${topic.name}`.execute(databases[owner].query)
  const behind = await Promise.all(
    groups.map(async (group) => {
      const lags = await lagOf(bus, { group, topics: [topic.name] })
      return [group, `${plural(Number(lags.reduce((sum, { messages }) => sum + messages, 0n)), 'message')} behind`]
    }),
  )
  const count = await countOf(bus, topic.name)
  print(`${topic.name}: ${count} partitions, to have ${partitions}`)
  print(table([[`outbox of ${owner}`, plural(rows[0]?.count ?? 0, 'event')], ...behind]).join('\n'))
  return count
}
