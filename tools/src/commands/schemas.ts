/** `npm run schemas -- COMMAND`: schemas as contracts: checks, compares, registers, adds and publishes them. */
import { type Command, listed, runCommands } from '../terminal/options.ts'

const commands: Command[] = [
  {
    name: 'check',
    about: 'says everything that is wrong with schemas, locks, topics and tables',
    load: () => import('../schemas/check.ts').then(({ usage, check }) => ({ usage, run: check })),
  },
  {
    name: 'check-pair',
    about: 'says whether one schema file reads what another one wrote',
    load: () => import('../schemas/check-pair.ts').then(({ usage, checkPair }) => ({ usage, run: checkPair })),
  },
  {
    name: 'register',
    about: 'adds new versions to the lock, with their golden bytes and all that follows',
    load: () =>
      import('../workspace/register.ts').then(({ usage, registerCommand }) => ({ usage, run: registerCommand })),
  },
  {
    name: 'new',
    about: "adds an event: schema, topic, the producer's row",
    load: () => import('../schemas/new.ts').then(({ usage, newCommand }) => ({ usage, run: newCommand })),
  },
  {
    name: 'diff',
    about: 'says in words how two versions of an event differ',
    load: () => import('../schemas/diff.ts').then(({ usage, diffCommand }) => ({ usage, run: diffCommand })),
  },
  {
    name: 'generate',
    about: 'writes types, AsyncAPI document, event catalogue and ACLs',
    load: () =>
      import('../workspace/generate.ts').then(({ usage, generateCommand }) => ({ usage, run: generateCommand })),
  },
  {
    name: 'view',
    about: 'makes a page for the browser of the AsyncAPI document',
    load: () => import('../schemas/viewer.ts').then(({ usage, viewCommand }) => ({ usage, run: viewCommand })),
  },
  {
    name: 'publish',
    about: 'publishes the lock to a schema registry',
    load: () => import('../schemas/publish.ts').then(({ usage, publishCommand }) => ({ usage, run: publishCommand })),
  },
]

const usage = `Usage: npm run schemas -- COMMAND [arguments]

${listed(commands)}

Each takes --help. How to change an event: docs/schemas.md`

process.exitCode = await runCommands({ usage, commands }, process.argv.slice(2))
