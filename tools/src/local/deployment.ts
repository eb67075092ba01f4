import { fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '@shopstream/local-servers'
import type { DatabasesTask, DeployAnswer, TopicsTask } from './deployment-process.ts'

export interface Deployer {
  /** Makes what the order asks for; throws with the reason when that fails. */
  run(order: DatabasesTask | TopicsTask): Promise<string[]>
  close(): void
}

/** Starts deployment-process.ts at once, so that it is loaded when Postgres and Kafka are there. */
export function startDeployer(env: NodeJS.ProcessEnv): Deployer {
  const child = fork(join(import.meta.dirname, 'deployment-process.ts'), {
    env,
    execArgv: [],
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let errors = ''
  child.stderr?.setEncoding('utf8').on('data', (text) => (errors += text))
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`making databases and topics ended with code ${code}\n${errors}`)))
  })
  ended.catch(() => {}) // its end is an error only for an order that waits for an answer
  return {
    async run(order) {
      child.send(order)
      const [answer] = (await Promise.race([once(child, 'message'), ended])) as [DeployAnswer]
      if ('error' in answer) throw new Error(answer.error)
      return answer.result
    },
    close() {
      if (child.connected) child.disconnect()
    },
  }
}

/** What a deployment has made last: the same topics and schemas need not be waited for. */
export const deployedFile = (home: string) => join(home, 'deployed')
export const readDeployed = (home: string) => existsSync(deployedFile(home)) && readFileSync(deployedFile(home), 'utf8')
export const schemasNow = () => {
  const locks = ['registry.lock.json', 'topics.lock.json'].map((file) =>
    readFileSync(join(repository, 'schemas', file)),
  )
  return createHash('sha256').update(Buffer.concat(locks)).digest('hex')
}

/** Says which setting led to the part that failed. */
export async function blame<T>(setting: string | undefined, part: Promise<T>): Promise<T> {
  try {
    return await part
  } catch (error) {
    if (setting === undefined) throw error
    throw new Error(`what ${setting} names cannot be used: ${(error as Error).message}`, { cause: error })
  }
}
