import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals'
import { temporaryFolder } from '@shopstream/local-servers'
import { bridges } from './bridge-table.ts'

let dir: string
beforeAll(() => {
  dir = temporaryFolder('bridge-table')
  process.env.BRIDGE_TABLE_URL = 'redis://127.0.0.1:6379'
})
afterAll(() => {
  delete process.env.BRIDGE_TABLE_URL
  rmSync(dir, { recursive: true, force: true })
})

const file = (name: string, event: string) => {
  const path = join(dir, `${name}.yaml`)
  writeFileSync(path, `- { name: ${name}, send: [${event}], to: { redis: { url: BRIDGE_TABLE_URL } } }\n`)
  return path
}

test('a table that is right is shown, by row', async () => {
  const printed = jest.spyOn(console, 'log').mockImplementation(() => {})
  const code = await bridges([file('one', 'OrderPlaced'), file('two', 'OrderShipped')])
  const text = printed.mock.calls.join('\n')
  printed.mockRestore()
  expect(code).toBe(0)
  expect(text).toMatch(/one +sends to redis +OrderPlaced[\s\S]*two +sends to redis +OrderShipped[\s\S]*2 bridges/)
})

test('all that is wrong is told, of each file', async () => {
  const told = bridges([file('bad', 'OrderPlace'), file('good', 'OrderPlaced'), join(dir, 'none.yaml')])
  await expect(told).rejects.toThrow(/bad\.yaml: bridge bad: send.0 must be one of/)
  await expect(told).rejects.toThrow(/none\.yaml: cannot be read/)
})
