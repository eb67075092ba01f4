import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder, repository, runCommand } from '@shopstream/testing/local'
import { eachLine } from '../stack/lines.ts'

const installLimitMs = 300_000
/** The versions that the examples pin; of these confluent-kafka alone is needed, and 20 packages are not fetched. */
const pinned = join(repository, 'examples/python/requirements.txt')
const script = join(import.meta.dirname, 'producer.py')

/** A Python with confluent-kafka: made once per content of what is pinned. Returns its path; throws with what failed. */
export async function findPython(say: (line: string) => void): Promise<string> {
  const folder = join(cacheFolder, 'foreign/venv')
  const stamp = join(folder, 'installed.sha256')
  const wanted = createHash('sha256').update(readFileSync(pinned)).digest('hex')
  const interpreter = join(folder, 'bin/python')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return interpreter
  say('installing confluent-kafka for Python')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const limits = { env: inherited(), limitMs: installLimitMs }
  await runCommand('python3', ['-m', 'venv', folder], limits)
  await runCommand(interpreter, ['-m', 'pip', 'install', '-q', '-c', pinned, 'confluent-kafka'], limits)
  writeFileSync(stamp, wanted)
  return interpreter
}

/** Not npm's settings, nor another virtual environment. */
const inherited = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_OPTIONS$|VIRTUAL_ENV$)/.test(name)))

/** producer.py at work. */
export interface Writing<R> {
  /** When it has printed its first line. */
  begun: Promise<void>
  /** What it printed last. Rejected with its errors when it fails. */
  ended: Promise<R>
  stop(): void
}

/** Starts a command of producer.py; see there for what it needs of `plan`, and what it prints. */
export function startProducer<R>(
  python: string,
  brokers: readonly string[],
  command: 'oddities' | 'transactions' | 'bombs' | 'hold',
  plan: unknown,
): Writing<R> {
  const child = spawn(python, [script, command, JSON.stringify(plan)], {
    env: { ...inherited(), KAFKA_BROKERS: brokers.join(), PYTHONDONTWRITEBYTECODE: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  const errors: string[] = []
  const begun = Promise.withResolvers<void>()
  eachLine(child.stdout, (line) => {
    lines.push(line)
    begun.resolve()
  })
  eachLine(child.stderr, (line) => errors.push(line))
  const ended = new Promise<R>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(JSON.parse(lines.at(-1) ?? 'null'))
      else reject(new Error(`producer.py ${command} ended with ${code}: ${errors.slice(-5).join('\n')}`))
    })
  })
  ended.catch((error) => begun.reject(error))
  begun.promise.catch(() => {}) // whoever awaits the end is told
  return { begun: begun.promise, ended, stop: () => child.kill('SIGTERM') }
}
