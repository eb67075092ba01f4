/** `npm run check`: style, import rules, dependencies, types, schemas, and whether generated files are up to date. */
import { existsSync, globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { repository, runCommand } from '@shopstream/testing'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run check

Lint with the house's import rules, dependencies and exports that nobody uses, types of every package, migrations that the
previous version could not live with, licences, schemas, generated files. Says everything that is wrong;
exit code 1. Mend with: npm run format (style), npm run schemas -- register (new versions of schemas), npm run generate
(generated files).`

interface Step {
  name: string
  command: [string, ...string[]]
}

const bin = (name: string) => join(repository, 'node_modules', '.bin', name)
const packages = globSync(['libs/*/tsconfig.json', 'services/*/tsconfig.json', 'tools/tsconfig.json'], {
  cwd: repository,
})

const steps: Step[] = [
  { name: 'lint and import rules', command: [bin('biome'), 'check', '--max-diagnostics=none', '.'] },
  { name: 'dependencies and exports', command: [bin('knip'), '--no-progress', '--no-config-hints'] },
  { name: 'licences', command: [process.execPath, 'tools/src/commands/packages.ts', 'licences'] },
  { name: 'migrations', command: [process.execPath, 'tools/src/workspace/migrations.ts'] },
  { name: 'schemas', command: [process.execPath, 'tools/src/commands/schemas.ts', 'check'] },
  { name: 'generated files', command: [process.execPath, 'tools/src/commands/schemas.ts', 'generate', '--check'] },
  ...packages.map((file): Step => ({ name: `types of ${dirname(file)}`, command: [bin('tsc'), '-p', dirname(file)] })),
]

/** Runs a step and prints what came of it; false when it found something. */
async function run({ name, command: [command, ...args] }: Step): Promise<boolean> {
  const begun = performance.now()
  const failure = await runCommand(command, args, { cwd: repository, limitMs: 300_000 }).then(
    () => undefined,
    (error: Error) => error.message,
  )
  const seconds = ((performance.now() - begun) / 1_000).toFixed(1)
  process.stdout.write(failure ? `FAILED  ${name} (${seconds} s)\n${failure}\n` : `ok      ${name} (${seconds} s)\n`)
  return failure === undefined
}

readOptions(usage, {})
if (!existsSync(bin('biome'))) throw new Error('the dependencies are not installed: run npm ci')
else {
  const outcomes: boolean[] = []
  const waiting = [...steps]
  const work = async () => {
    for (let step = waiting.shift(); step; step = waiting.shift()) outcomes.push(await run(step))
  }
  await Promise.all([work(), work()])
  const failed = outcomes.filter((passed) => !passed).length
  process.stdout.write(failed === 0 ? 'Everything is in order.\n' : `${failed} of ${steps.length} checks failed.\n`)
  process.exit(failed === 0 ? 0 : 1)
}
