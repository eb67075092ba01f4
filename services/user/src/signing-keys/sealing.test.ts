import { expect, test } from '@jest/globals'
import { open, SealError, seal } from './sealing.ts'

const secret = 'a secret of at least thirty-two characters'

test('what was sealed is opened by the same secret, and is not readable in between', async () => {
  const sealed = await seal(secret, 'key-1', '{"d":"private"}')
  expect(sealed.toString('latin1')).not.toContain('private')
  expect(await open(secret, 'key-1', sealed)).toBe('{"d":"private"}')
})

test.each([
  ['another secret', `${secret}!`, 'key-1', (sealed: Buffer) => sealed],
  ['another key id', secret, 'key-2', (sealed: Buffer) => sealed],
  ['a changed byte', secret, 'key-1', (sealed: Buffer) => sealed.fill(0, sealed.length - 1)],
  ['a cut end', secret, 'key-1', (sealed: Buffer) => sealed.subarray(0, 20)],
  ['another version', secret, 'key-1', (sealed: Buffer) => sealed.fill(9, 0, 1)],
])('%s does not open it', async (_what, by, id, change) => {
  const sealed = change(await seal(secret, 'key-1', '{"d":"private, or so"}\u0001'))
  await expect(open(by, id, sealed)).rejects.toThrow(SealError)
})
