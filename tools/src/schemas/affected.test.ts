import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { serviceNames } from '../services.ts'

/** The services of which `nx affected -t contract` runs the tests when this file has changed. */
async function affectedBy(file: string): Promise<string[]> {
  const nx = join(repository, 'node_modules/.bin/nx')
  const outer = Object.entries(process.env).filter(([name]) => !name.startsWith('NX_')) // of an nx that runs this test
  const { stdout } = await promisify(execFile)(
    nx,
    ['affected', '-t', 'contract', `--files=${file}`, '--graph=stdout'],
    { cwd: repository, env: { ...Object.fromEntries(outer), NX_DAEMON: 'false' }, maxBuffer: 64 * 1024 * 1024 },
  )
  const { tasks } = JSON.parse(stdout) as { tasks: { tasks: Record<string, unknown> } }
  return Object.keys(tasks.tasks)
    .map((task) => /^@shopstream\/(.*)-service:contract$/.exec(task)?.[1] ?? task)
    .toSorted()
}

test.each([
  ['schemas/order/OrderShipped.avsc', ['inventory', 'notification', 'order']],
  ['schemas/golden/shopstream.user.UserRegistered.v2.json', ['notification', 'user']],
  ['libs/events/src/generated/events.ts', []],
  ['libs/events/src/codec/codec.ts', serviceNames.toSorted()],
])('a change of %s runs the contracts of %j', async (file, services) => {
  expect(await affectedBy(file)).toEqual(services)
})
