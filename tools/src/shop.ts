/** `npm run shop -- COMMAND`: looks into a running shop, and mends what needs a person. */
import { type Command, listed, runCommands } from './options.ts'
import { reachHelp } from './shop/reach.ts'

const commands: Command[] = [
  {
    name: 'status',
    about: 'what is wrong, on one screen, and the next command to run',
    load: () => import('./shop/status.ts').then(({ usage, status }) => ({ usage, run: status })),
  },
  {
    name: 'explain',
    about: 'the whole story of an order, user, product or event',
    load: () => import('./shop/explain.ts').then(({ usage, explain }) => ({ usage, run: explain })),
  },
  {
    name: 'lag',
    about: 'what each consumer group has not handled yet',
    load: () => import('./shop/lag.ts').then(({ usage, lag }) => ({ usage, run: lag })),
  },
  {
    name: 'tail',
    about: 'the decoded events of topics, as they are written',
    load: () => import('./shop/tail.ts').then(({ usage, tail }) => ({ usage, run: tail })),
  },
  {
    name: 'dead-letters',
    about: 'messages that failed: list, show, retry, redrive, discard',
    load: () => import('./shop/dead-letters.ts'),
  },
  {
    name: 'unreadable',
    about: 'what stops a partition because nobody can read it: list, show, step over',
    load: () => import('./shop/unreadable.ts'),
  },
  {
    name: 'republish',
    about: "writes the owner's current state to a compacted topic again",
    load: () => import('./shop/republish.ts').then(({ usage, republish }) => ({ usage, run: republish })),
  },
  {
    name: 'catch-up',
    about: "brings a restored database up to what the service's own events say",
    load: () => import('./shop/catch-up.ts').then(({ usage, catchUp }) => ({ usage, run: catchUp })),
  },
  {
    name: 'rewind',
    about: 'lets a consumer group read again from a time',
    load: () => import('./shop/rewind.ts').then(({ usage, rewind }) => ({ usage, run: rewind })),
  },
  {
    name: 'grow',
    about: 'gives a topic more partitions, and keeps the order of each key',
    load: () => import('./shop/grow.ts').then(({ usage, grow }) => ({ usage, run: grow })),
  },
  {
    name: 'archive',
    about: 'moves orders, reservations and mails that are over and old into files',
    load: () => import('./shop/archive.ts').then(({ usage, archive }) => ({ usage, run: archive })),
  },
  { name: 'verify', about: 'proves that nothing is lost, nothing is twice', load: () => import('./shop/verify.ts') },
]

const usage = `Usage: npm run shop -- COMMAND [arguments]

${listed(commands)}

Each takes --help.

${reachHelp}`

process.exitCode = await runCommands({ usage, commands }, process.argv.slice(2))
setTimeout(() => process.exit(), 2_000).unref() // KafkaJS keeps connections to a broker that has fallen silent
