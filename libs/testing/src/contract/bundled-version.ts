import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { LockEntry } from '@shopstream/events/codec'
import { cacheFolder, repository } from '@shopstream/local-servers'
import { build } from 'esbuild'

type Data = Record<string, unknown>

/** Another version of the shop's code, in a process of its own. Its calls throw what that process throws. */
export interface BundledVersion {
  encode(event: string, data: Data): Promise<Buffer>
  decode(bytes: Buffer): Promise<{ event: string; data: Data }>
  /** Takes in what `shop.schema.v1` tells: the bytes of a `SchemaRegistered`. */
  learn(bytes: Buffer): Promise<void>
  close(): Promise<void>
}

/** What runs in the process: the library's own functions, called by message. */
const program = `
import { decode, encode, learnSchema } from './index.ts'
const calls = {
  encode,
  decode: (bytes) => decode(Buffer.from(bytes)),
  learn: (bytes) => learnSchema(decode(Buffer.from(bytes)).data),
}
process.on('message', ({ id, call, args }) => {
  try {
    process.send({ id, value: calls[call](...args) })
  } catch (error) {
    process.send({ id, error: { message: error.message, reason: error.reason } })
  }
})
process.on('disconnect', () => process.exit())
process.send({ id: 0 })
`

/** avsc is CommonJS and asks for Node's modules by require. */
const banner = `import { createRequire as createRequireOfBundle } from 'node:module'
const require = createRequireOfBundle(import.meta.url)
`

/**
 * Bundles `libs/events` as a service's build does, with `lock` in place of `schemas/registry.lock.json`, and runs it.
 * It is today's code with another lock. Throws when the bundle cannot be made or does not start.
 */
export async function startBundledVersion(lock: readonly LockEntry[]): Promise<BundledVersion> {
  mkdirSync(cacheFolder, { recursive: true })
  const folder = mkdtempSync(join(cacheFolder, 'version-'))
  const remove = () => rmSync(folder, { recursive: true })
  try {
    const file = join(folder, 'version.mjs')
    await bundle(file, lock)
    return await run(file, remove)
  } catch (error) {
    remove()
    throw error
  }
}

async function bundle(file: string, lock: readonly LockEntry[]): Promise<void> {
  let replaced = 0
  await build({
    stdin: { contents: program, resolveDir: join(repository, 'libs/events/src'), loader: 'ts' },
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: { js: banner },
    logLevel: 'warning',
    plugins: [
      {
        name: 'lock',
        setup: ({ onLoad }) =>
          onLoad({ filter: /[\\/]schemas[\\/]registry\.lock\.json$/ }, () => {
            replaced += 1
            return { contents: JSON.stringify(lock), loader: 'json' }
          }),
      },
    ],
  })
  if (replaced !== 1)
    throw new Error(`the bundle has ${replaced} locks in place of schemas/registry.lock.json, not one`)
}

/** Starts the bundle; `atEnd` is called when it is closed. */
async function run(file: string, atEnd: () => void): Promise<BundledVersion> {
  const child = fork(file, { serialization: 'advanced', execArgv: ['--enable-source-maps'] })
  const waiting = new Map<number, PromiseWithResolvers<never>>()
  const ended = once(child, 'exit').then(([code]) => {
    for (const { reject } of waiting.values()) reject(new Error(`the bundled version ended with ${code}`))
  })
  child.on('message', ({ id, value, error }: { id: number; value: never; error?: { message: string } }) => {
    const call = waiting.get(id)
    waiting.delete(id)
    if (error) call?.reject(Object.assign(new Error(error.message), error))
    else call?.resolve(value)
  })
  let calls = 0
  const answerTo = (id: number) => {
    const answer = Promise.withResolvers<never>()
    waiting.set(id, answer)
    return answer.promise
  }
  const ask = (call: string, ...args: unknown[]) => {
    const answer = answerTo(++calls)
    child.send({ id: calls, call, args })
    return answer
  }
  await answerTo(0)
  return {
    encode: async (event, data) => Buffer.from(await ask('encode', event, data)),
    decode: (bytes) => ask('decode', bytes),
    learn: (bytes) => ask('learn', bytes),
    async close() {
      if (child.connected) child.disconnect()
      await ended
      atEnd()
    },
  }
}
