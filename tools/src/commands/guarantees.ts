/** `npm run guarantees`: breaks the code for each promise of docs/guarantees.md, and shows that its test notices. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { kafkaClientFrom } from '@shopstream/messaging/operations'
import { repository } from '@shopstream/testing'
import { startBackend } from '@shopstream/testing/backend'
import { copyWorkspace, type WorkspaceCopy } from '../proof/guarantees/copy.ts'
import { documentFile, type Guarantee, provableWith, readGuarantees } from '../proof/guarantees/document.ts'
import { readArguments } from '../terminal/options.ts'

const usage = `Usage: npm run guarantees [-- ID...]

For each promise of ${documentFile}: runs its test in a copy of this workspace, where it must pass; breaks the code as the
page says, and runs the test again, which must fail. With IDs: for these alone. Ends with 1 when a break goes unnoticed.

  --client NAME  with this Kafka client, kafkajs (the default) or platformatic: with the second, what the event core promises
  --list         says what is promised, and by which test it is held
  --why          shows what each test said of the broken code
  --help`

/** Files of tests run side by side: they wait most of the time. */
const atOnce = 2

const { values, positionals } = readArguments(usage, {
  client: { type: 'string', default: kafkaClientFrom({}) },
  list: { type: 'boolean' },
  why: { type: 'boolean' },
})
const client = kafkaClientFrom({ KAFKA_CLIENT: values.client })
const all = provableWith(client, readGuarantees(repository), client === kafkaClientFrom({}))
const unknown = positionals.filter((id) => !all.some((guarantee) => guarantee.id === id))
const chosen = positionals.length === 0 ? all : all.filter(({ id }) => positionals.includes(id))
if (unknown.length > 0) {
  process.stderr.write(`There is no promise ${unknown.join(', ')} that ${client} can break.\n\n${usage}\n`)
  process.exitCode = 2
} else if (values.list) {
  for (const { id, promise, test } of all) console.log(`${id}: ${promise}\n    ${test.file}: ${test.name}`)
} else process.exitCode = await prove(chosen)

async function prove(guarantees: readonly Guarantee[]): Promise<number> {
  const begun = performance.now()
  const backend = await startBackend((line) => console.log(line))
  const env = {
    ...process.env,
    KAFKA_CLIENT: client,
    ...(backend && { TEST_KAFKA_BROKERS: backend.brokers, TEST_POSTGRES_URL: backend.postgresUrl }),
  }
  const byFile = [...Map.groupBy(guarantees, ({ test }) => test.file).values()]
  const queue = byFile.sort((one, other) => other.length - one.length) // the longest first, so that none is left alone
  const verdicts: Proof[] = []
  const workThrough = async () => {
    const copy = copyWorkspace(repository)
    try {
      for (let ofFile = queue.shift(); ofFile; ofFile = queue.shift())
        await proveFile(copy, ofFile, env, (verdict) => {
          verdicts.push(verdict)
          tell(verdict, `${verdicts.length}/${guarantees.length}`)
        })
    } finally {
      copy.drop()
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(atOnce, queue.length) }, workThrough))
  } finally {
    await backend?.stop()
  }
  const noticed = verdicts.filter(({ problem }) => problem === undefined).length
  const seconds = ((performance.now() - begun) / 1_000).toFixed(0)
  console.log(`${noticed} of ${guarantees.length} breaks were noticed, in ${seconds} s`)
  return noticed === guarantees.length ? 0 : 1
}

interface Proof {
  id: string
  /** Why the runs prove nothing; undefined when they prove that the test notices. */
  problem: string | undefined
  /** What the test said of the broken code. */
  words?: string
}

function tell({ id, problem, words }: Proof, place: string): void {
  console.log(`${place} ${problem === undefined ? 'noticed ' : 'UNPROVEN'} ${id}`)
  if (problem !== undefined) console.log(problem)
  else if (values.why && words) console.log(words.replace(/^/gm, '    '))
}

/** The tests of one file: all on the code as it is, then each on its own broken code. */
async function proveFile(
  copy: WorkspaceCopy,
  guarantees: readonly Guarantee[],
  env: NodeJS.ProcessEnv,
  conclude: (verdict: Proof) => void,
): Promise<void> {
  const whole = await runTests(
    copy.root,
    guarantees.map(({ test }) => test),
    env,
  )
  for (const { id, test, breaks } of guarantees) {
    const before = whole.ofTest(test.name)
    if (before.passed + before.failed.length === 0) conclude({ id, problem: `there is no such test\n${whole.output}` })
    else if (before.failed.length > 0)
      conclude({ id, problem: `the test fails on the code as it is:\n${before.failed.join('\n')}` })
    else {
      const broken = await copy.whileBroken(breaks, () => runTests(copy.root, [test], env))
      const { passed, failed } = broken.ofTest(test.name)
      if (failed.length > 0) conclude({ id, problem: undefined, words: failed.join('\n') })
      else if (passed > 0) conclude({ id, problem: 'the test passes on broken code' })
      else conclude({ id, problem: `the broken code does not load:\n${broken.output}` })
    }
  }
}

interface Outcome {
  /** How many tests of this name there are that passed, and what those said that failed. */
  ofTest(name: string): { passed: number; failed: string[] }
  output: string
}

interface JestResults {
  testResults: { assertionResults: { fullName: string; status: string; failureMessages: string[] }[] }[]
}

async function runTests(root: string, tests: readonly Guarantee['test'][], env: NodeJS.ProcessEnv): Promise<Outcome> {
  const results = join(root, 'results.json')
  rmSync(results, { force: true })
  const args = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    'node_modules/jest/bin/jest.js',
    '--json',
    `--outputFile=${results}`,
    '--testNamePattern',
    tests.map(({ name }) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|'),
    '--runTestsByPath',
    ...new Set(tests.map(({ file }) => file)),
  ]
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.setEncoding('utf8').on('data', (text) => (output += text))
  await once(child, 'close')
  const { testResults } = JSON.parse(readFileSync(results, 'utf8')) as JestResults
  const all = testResults.flatMap(({ assertionResults }) => assertionResults)
  return {
    ofTest(name) {
      const found = all.filter(({ fullName }) => fullName.includes(name))
      return {
        passed: found.filter(({ status }) => status === 'passed').length,
        failed: found
          .filter(({ status }) => status === 'failed')
          .map(({ fullName, failureMessages }) => `${fullName}\n${failureMessages.map(firstLines).join('\n')}`),
      }
    },
    output,
  }
}

function firstLines(message: string): string {
  return message.split('\n').slice(0, 12).join('\n')
}
