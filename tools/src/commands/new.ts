/** `npm run new -- service NAME`: adds a service, or an event, that works from the first minute. */
import { type Command, listed, runCommands } from '../terminal/options.ts'

const commands: Command[] = [
  {
    name: 'service',
    about: 'a service with a database, that consumes one event and answers one route',
    load: () =>
      import('../workspace/new-service.ts').then(({ usage, newServiceCommand }) => ({ usage, run: newServiceCommand })),
  },
  {
    name: 'event',
    about: 'an event: schema, topic, the row of who produces it',
    load: () => import('../schemas/new.ts').then(({ usage, newCommand }) => ({ usage, run: newCommand })),
  },
]

const usage = `Usage: npm run new -- WHAT NAME [arguments]

${listed(commands)}

Each takes --help.`

process.exitCode = await runCommands({ usage, commands }, process.argv.slice(2))
