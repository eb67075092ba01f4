/** `npm run packages -- COMMAND`: what others have made of what is shipped: licences, and a bill of materials of each image. */
import { type Command, listed, runCommands } from '../terminal/options.ts'

const commands: Command[] = [
  {
    name: 'licences',
    about: 'lists the licences of all packages, and refuses what does not fit MIT',
    load: () => import('../workspace/licences.ts').then(({ usage, licences }) => ({ usage, run: licences })),
  },
  {
    name: 'sbom',
    about: 'prints what is in an image, as CycloneDX',
    load: () => import('../workspace/sbom.ts').then(({ usage, sbom }) => ({ usage, run: sbom })),
  },
]

const usage = `Usage: npm run packages -- COMMAND [arguments]

${listed(commands)}

Each takes --help.`

process.exitCode = await runCommands({ usage, commands }, process.argv.slice(2))
