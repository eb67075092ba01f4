/** `npm run shop -- COMMAND`: looks into a running shop, and mends what needs a person. */
import { type Command, listed, runCommands } from './options.ts'
import { reachHelp } from './shop/reach.ts'

const commands: Command[] = [
  {
    name: 'dead-letters',
    about: 'messages that failed: list, show, retry, redrive, discard',
    load: () => import('./shop/dead-letters.ts'),
  },
]

const usage = `Usage: npm run shop -- COMMAND [arguments]

${listed(commands)}

Each takes --help. ${reachHelp}`

process.exitCode = await runCommands({ usage, commands }, process.argv.slice(2))
