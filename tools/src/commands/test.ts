/**
 * `npm test`: every test of the workspace but the proofs, once; `npm run proofs`: the long ones, `*.proof.test.ts`.
 * Those take long because something in them fails and recovers, or is built by the tools of other languages. The last line counts them.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { repository } from '@shopstream/testing'

const usage = `Usage: npm test [-- PATHS and options of Jest]
       npm run proofs [-- PATHS and options of Jest]

Runs tests against a real Kafka and a real Postgres, which it starts and stops itself.

  npm test                            all but the proofs
  npm test -- services/order          the tests of one service
  npm test -- libs/messaging -t park  those with "park" in their name
  npm run proofs                      the long ones: brokers and databases that fail, kills under load, faults at random,
                                      the examples in other languages
  npm run proofs -- examples          one of them

Environment: TEST_BACKEND=auto|local|containers chooses where Kafka and Postgres come from (auto: containers where an
engine answers, else Java and the embedded Postgres; none starts neither); TEST_KAFKA_BROKERS and TEST_POSTGRES_URL use
running ones. TEST_LOG_LEVEL=debug prints the logs of what is tested on stderr.`

/** Suites that are not meant; Jest's own setting is replaced by it. */
const leftOut = (proofs: boolean) => [
  '/node_modules/',
  '/dist/',
  proofs ? '^(?!.*\\.proof\\.test\\.ts$)' : '\\.proof\\.test\\.ts$',
]

interface Results {
  numPassedTests: number
  numFailedTests: number
  numRuntimeErrorTestSuites: number
}

interface Outcome {
  succeeded: boolean
  /** Undefined when Jest did not get as far as having any. */
  results?: Results
}

/** Runs Jest; its workers take the flags over. */
async function runJest(args: readonly string[], resultFile: string): Promise<Outcome> {
  const jest = join(repository, 'node_modules/jest/bin/jest.js')
  const flags = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning']
  const child = spawn(process.execPath, [...flags, jest, '--json', `--outputFile=${resultFile}`, ...args], {
    cwd: repository,
    stdio: ['inherit', 'ignore', 'inherit'], // Jest reports on stderr; with --json its stdout says where the results are
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  const [code] = await once(child, 'exit')
  try {
    return { succeeded: code === 0, results: JSON.parse(readFileSync(resultFile, 'utf8')) }
  } catch (error) {
    process.stderr.write(`Jest left no results: ${(error as Error).message}\n`)
    return { succeeded: false }
  }
}

const proofs = process.argv[2] === '--proofs'
const args = process.argv.slice(proofs ? 3 : 2)
if (args.includes('--help')) process.stdout.write(`${usage}\n`)
else {
  const folder = mkdtempSync(join(tmpdir(), 'shopstream-results-'))
  const { succeeded, results } = await runJest(
    [...args, '--testPathIgnorePatterns', ...leftOut(proofs)],
    join(folder, 'results.json'),
  )
  rmSync(folder, { recursive: true, force: true })
  const passed = results?.numPassedTests ?? 0
  // A suite that does not even load counts as one failure, so that it cannot hide.
  const failed = results ? results.numFailedTests + results.numRuntimeErrorTestSuites : 1
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  process.exit(succeeded && failed === 0 && passed > 0 ? 0 : 1)
}
