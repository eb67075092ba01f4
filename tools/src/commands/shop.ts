/** `npm run shop -- COMMAND`: looks into a running shop, and mends what needs a person. */

import { reachHelp } from '../operations/shop-access.ts'
import { type Command, listed, runCommands } from '../terminal/options.ts'

const commands: Command[] = [
  {
    name: 'status',
    about: 'what is wrong, on one screen, and the next command to run',
    load: () => import('../operations/status.ts').then(({ usage, status }) => ({ usage, run: status })),
  },
  {
    name: 'explain',
    about: 'the whole story of an order, user, product or event',
    load: () => import('../operations/explain.ts').then(({ usage, explain }) => ({ usage, run: explain })),
  },
  {
    name: 'trace',
    about: 'the spans of an order, or of a trace, as a tree',
    load: () => import('../operations/trace.ts').then(({ usage, trace }) => ({ usage, run: trace })),
  },
  {
    name: 'lag',
    about: 'what each consumer group has not handled yet',
    load: () => import('../operations/lag.ts').then(({ usage, lag }) => ({ usage, run: lag })),
  },
  {
    name: 'tail',
    about: 'the decoded events of topics, as they are written',
    load: () => import('../operations/tail.ts').then(({ usage, tail }) => ({ usage, run: tail })),
  },
  {
    name: 'dead-letters',
    about: 'messages that failed: list, show, retry, redrive, discard',
    load: () => import('../operations/dead-letters.ts'),
  },
  {
    name: 'bridges',
    about: 'judges a table of bridges before a service is started with it',
    load: () => import('../operations/bridge-table.ts').then(({ usage, bridges }) => ({ usage, run: bridges })),
  },
  {
    name: 'unreadable',
    about: 'what stops a partition because nobody can read it: list, show, step over',
    load: () => import('../operations/unreadable.ts'),
  },
  {
    name: 'republish',
    about: "writes the owner's current state to a compacted topic again",
    load: () => import('../operations/republish.ts').then(({ usage, republish }) => ({ usage, run: republish })),
  },
  {
    name: 'catch-up',
    about: "brings a restored database up to what the service's own events say",
    load: () => import('../operations/catch-up.ts').then(({ usage, catchUp }) => ({ usage, run: catchUp })),
  },
  {
    name: 'rewind',
    about: 'lets a consumer group read again from a time',
    load: () => import('../operations/rewind.ts').then(({ usage, rewind }) => ({ usage, run: rewind })),
  },
  {
    name: 'grow',
    about: 'gives a topic more partitions, and keeps the order of each key',
    load: () => import('../operations/grow.ts').then(({ usage, grow }) => ({ usage, run: grow })),
  },
  {
    name: 'archive',
    about: 'moves orders, reservations and mails that are over and old into files',
    load: () => import('../operations/archive.ts').then(({ usage, archive }) => ({ usage, run: archive })),
  },
  {
    name: 'deploy',
    about: 'puts databases, roles, ACLs, topics and schemas in place before services start',
    load: () => import('../operations/deploy.ts').then(({ usage, deploy }) => ({ usage, run: deploy })),
  },
  {
    name: 'secrets',
    about: 'writes the secrets of a deployment by containers into files',
    load: () => import('../operations/secrets.ts').then(({ usage, secrets }) => ({ usage, run: secrets })),
  },
  {
    name: 'verify',
    about: 'proves that nothing is lost, nothing is twice',
    load: () => import('../operations/verify.ts'),
  },
]

const usage = `Usage: npm run shop -- COMMAND [arguments]

${listed(commands)}

Each takes --help.

${reachHelp}`

process.exitCode = await runCommands({ usage, commands }, process.argv.slice(2))
setTimeout(() => process.exit(), 2_000).unref() // KafkaJS keeps connections to a broker that has fallen silent
