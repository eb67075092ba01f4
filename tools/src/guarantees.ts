/** `npm run guarantees`: breaks the code for each promise of docs/guarantees.md, and shows that its test notices. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '@shopstream/testing'
import { startBackend } from '@shopstream/testing/backend'
import { copyWorkspace } from './guarantees/copy.ts'
import { documentFile, type Guarantee, readGuarantees } from './guarantees/document.ts'
import { readArguments } from './options.ts'

const usage = `Usage: npm run guarantees [-- ID...]

For each promise of ${documentFile}: runs its test in a copy of this workspace, where it must pass; breaks the code as the
page says, and runs the test again, where it must fail. With IDs: for these alone. Ends with 1 when a break goes unnoticed.

  --list    says what is promised, and by which test it is held
  --help`

const { values, positionals } = readArguments(usage, { list: { type: 'boolean' } })
const all = readGuarantees(repository)
const unknown = positionals.filter((id) => !all.some((guarantee) => guarantee.id === id))
const chosen = positionals.length === 0 ? all : all.filter(({ id }) => positionals.includes(id))
if (unknown.length > 0) {
  process.stderr.write(`There is no promise ${unknown.join(', ')}.\n\n${usage}\n`)
  process.exitCode = 2
} else if (values.list) {
  for (const { id, promise, test } of all) console.log(`${id}: ${promise}\n    ${test.file}: ${test.name}`)
} else process.exitCode = await prove(chosen)

async function prove(guarantees: readonly Guarantee[]): Promise<number> {
  const begun = performance.now()
  const backend = await startBackend((line) => console.log(line))
  const copy = copyWorkspace(repository)
  const env = {
    ...process.env,
    ...(backend && { TEST_KAFKA_BROKERS: backend.brokers, TEST_POSTGRES_URL: backend.postgresUrl }),
  }
  let unproven = 0
  try {
    for (const [place, guarantee] of guarantees.entries()) {
      const whole = await runTest(copy.root, guarantee, env)
      const broken = await copy.whileBroken(guarantee.breaks, () => runTest(copy.root, guarantee, env))
      const verdict = judge(whole, broken)
      if (verdict !== undefined) unproven += 1
      console.log(
        `${place + 1}/${guarantees.length} ${verdict === undefined ? 'noticed ' : 'UNPROVEN'} ${guarantee.id}`,
      )
      if (verdict !== undefined) console.log(verdict)
    }
  } finally {
    copy.drop()
    await backend?.stop()
  }
  const seconds = ((performance.now() - begun) / 1_000).toFixed(0)
  console.log(`${guarantees.length - unproven} of ${guarantees.length} breaks were noticed, in ${seconds} s`)
  return unproven === 0 ? 0 : 1
}

interface Outcome {
  passed: number
  failed: number
  /** Files that did not even load: a break that is no program proves nothing. */
  unloadable: number
  output: string
}

/** Why the pair of runs proves nothing; undefined when it proves that the test notices. */
function judge(whole: Outcome, broken: Outcome): string | undefined {
  if (whole.passed === 0 && whole.failed === 0) return 'there is no such test'
  if (whole.failed + whole.unloadable > 0) return `the test fails on the code as it is:\n${whole.output}`
  if (broken.unloadable > 0) return `the broken code does not load:\n${broken.output}`
  return broken.failed > 0 ? undefined : 'the test passes on broken code'
}

async function runTest(root: string, { test }: Guarantee, env: NodeJS.ProcessEnv): Promise<Outcome> {
  const results = join(root, 'results.json')
  rmSync(results, { force: true })
  const args = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    'node_modules/jest/bin/jest.js',
    '--json',
    `--outputFile=${results}`,
    '--testNamePattern',
    test.name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
    '--runTestsByPath',
    test.file,
  ]
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.setEncoding('utf8').on('data', (text) => (output += text))
  await once(child, 'close')
  const found = JSON.parse(readFileSync(results, 'utf8'))
  return {
    passed: found.numPassedTests,
    failed: found.numFailedTests,
    unloadable: found.numRuntimeErrorTestSuites,
    output,
  }
}
