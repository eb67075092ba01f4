import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { cacheFolder, repository } from '@shopstream/local-servers'
import { eachLine } from '../../local/log-lines.ts'
import { virtualEnvironment, withoutOtherTools } from '../../local/python.ts'

/** The versions that the examples pin; of these confluent-kafka alone is needed, and 20 packages are not fetched. */
const pinned = join(repository, 'examples/python/requirements.txt')
const script = join(import.meta.dirname, 'producer.py')

/** A Python with confluent-kafka. */
export const findPython = (say: (line: string) => void) =>
  virtualEnvironment(join(cacheFolder, 'foreign'), pinned, { packages: ['confluent-kafka'], say })

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
    env: { ...withoutOtherTools(process.env), KAFKA_BROKERS: brokers.join(), PYTHONDONTWRITEBYTECODE: '1' },
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
