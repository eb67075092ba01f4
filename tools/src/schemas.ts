/** `npm run schemas -- COMMAND`: schemas as contracts: checks, compares, registers, adds and publishes them. */
import { Refused, UsageError } from './schemas/findings.ts'

interface Command {
  name: string
  about: string
  load: () => Promise<{ usage: string; run: (args: string[]) => Promise<number> }>
}

/** Each is loaded when it is called, so that one works while what another needs is broken. */
const commands: Command[] = [
  {
    name: 'check',
    about: 'says everything that is wrong with schemas, locks, topics and tables',
    load: () => import('./schemas/check.ts').then(({ usage, check }) => ({ usage, run: check })),
  },
  {
    name: 'check-pair',
    about: 'says whether one schema file reads what another one wrote',
    load: () => import('./schemas/check-pair.ts').then(({ usage, checkPair }) => ({ usage, run: checkPair })),
  },
  {
    name: 'register',
    about: 'adds new versions to the lock, with their golden bytes and all that follows',
    load: () => import('./schemas/register.ts').then(({ usage, registerCommand }) => ({ usage, run: registerCommand })),
  },
  {
    name: 'new',
    about: "adds an event: schema, topic, the producer's row",
    load: () => import('./schemas/new.ts').then(({ usage, newCommand }) => ({ usage, run: newCommand })),
  },
  {
    name: 'diff',
    about: 'says in words how two versions of an event differ',
    load: () => import('./schemas/diff.ts').then(({ usage, diffCommand }) => ({ usage, run: diffCommand })),
  },
  {
    name: 'generate',
    about: 'writes types, AsyncAPI document, event catalogue and ACLs',
    load: () => import('./schemas/generate.ts').then(({ usage, generateCommand }) => ({ usage, run: generateCommand })),
  },
  {
    name: 'view',
    about: 'makes a page for the browser of the AsyncAPI document',
    load: () => import('./schemas/viewer.ts').then(({ usage, viewCommand }) => ({ usage, run: viewCommand })),
  },
  {
    name: 'publish',
    about: 'publishes the lock to a schema registry',
    load: () => import('./schemas/publish.ts').then(({ usage, publishCommand }) => ({ usage, run: publishCommand })),
  },
]

const usage = `Usage: npm run schemas -- COMMAND [arguments]

${commands.map(({ name, about }) => `  ${name.padEnd(12)}${about}`).join('\n')}

Each takes --help. How to change an event: docs/schemas.md`

/** Runs a command; returns its exit code. */
async function main([name, ...args]: string[]): Promise<number> {
  if (name === '--help' || name === '-h') {
    console.log(usage)
    return 0
  }
  const command = commands.find((one) => one.name === name)
  if (!command) {
    console.error(`${name === undefined ? 'Which command?' : `There is no command ${name}.`}\n\n${usage}`)
    return 2
  }
  const { usage: own, run } = await command.load()
  if (args.includes('--help') || args.includes('-h')) {
    console.log(own)
    return 0
  }
  try {
    return await run(args)
  } catch (error) {
    if (error instanceof Refused) {
      console.error(`${error.message}\n\nRefused; nothing was written.`)
      return 1
    }
    const isUsage =
      error instanceof UsageError || String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS')
    if (!isUsage) throw error
    console.error((error as Error).message)
    return 2
  }
}

process.exitCode = await main(process.argv.slice(2))
