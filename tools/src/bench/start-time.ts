import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { eventually, repository, temporaryFolder } from '@shopstream/testing'
import { inWords, listed, memoryOf, type Say, spread, total, treeOf } from './measure.ts'

const laterStarts = 3

/** Starts the shop as a user does, by `npm start`, on fresh state and then on kept state; ends it as Ctrl-C does. */
export async function start(say: Say) {
  const home = temporaryFolder('bench')
  try {
    const first = await startOnce(home)
    say(`first start, from nothing: ready after ${seconds(first.readyMs)} s`)
    const later = []
    for (let n = 0; n < laterStarts; n++) later.push(await startOnce(home))
    const ready = spread(later.map(({ readyMs }) => readyMs / 1_000))
    const stopped = spread([first, ...later].map(({ stoppedMs }) => stoppedMs / 1_000))
    const memory = later.at(-1)?.memory ?? {}
    say(`${laterStarts} later starts: ready after ${inWords(ready, 's')}`)
    say(`Ctrl-C: everything gone after ${inWords(stopped, 's')}`)
    say(`memory, ready and at rest: ${total(memory)} MB (${listed(memory, ' MB')})`)
    return { firstReadySeconds: first.readyMs / 1_000, readySeconds: ready, stoppedSeconds: stopped, memoryMB: memory }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

const seconds = (ms: number) => (ms / 1_000).toFixed(1)

async function startOnce(home: string) {
  const { tree, readyMs, stop } = await startAsUser(home)
  const memory = memoryOf(tree())
  return { readyMs, memory, stoppedMs: await stop() }
}

/** `npm start` and Ctrl-C. `tree`: npm and all that it has started. */
export async function startAsUser(home: string) {
  const begun = performance.now()
  const npm = spawn('npm', ['start'], {
    cwd: repository,
    env: { ...process.env, SHOPSTREAM_HOME: home },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true, // a process group of its own, as a terminal gives it
  })
  const pid = npm.pid as number
  let output = ''
  npm.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  await eventually('the shop to be ready', () => output.includes('The shop is ready'), {
    timeoutMs: 180_000,
    everyMs: 10,
  })
  const readyMs = performance.now() - begun
  const tree = () => treeOf(pid)
  await eventually('all processes', () => tree().length > 5)
  async function stop(): Promise<number> {
    const all = tree()
    const asked = performance.now()
    process.kill(-pid, 'SIGINT')
    if (npm.exitCode === null) await once(npm, 'exit')
    await eventually('no process to be left', () => !all.some((one) => treeOf(one.pid).length > 0), {
      timeoutMs: 30_000,
      everyMs: 20,
    })
    return performance.now() - asked
  }
  return { tree, readyMs, stop }
}
