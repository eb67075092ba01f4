import { expect, test } from '@jest/globals'
import { encode, registry } from '@shopstream/events'
import { startBundledVersion } from './bundled-version.ts'

test('another version runs with its own lock, and learns what it lacks', async () => {
  const [first] = registry
  if (!first) throw new Error('the registry is empty')
  const userErased = { userId: '0199a2b4-6c00-7000-8000-000000000001', erasedAt: new Date() }
  const row = registry.find(({ subject }) => subject === 'shopstream.user.UserErased')
  const version = await startBundledVersion([first, { ...row, id: 100_777 } as never])
  try {
    expect((await version.encode('UserErased', userErased)).readInt32BE(1)).toBe(100_777)
    const bytes = encode('UserErased', userErased)
    await expect(version.decode(bytes)).rejects.toMatchObject({ reason: 'unknown-schema' })
    await version.learn(
      encode('SchemaRegistered', {
        schemaId: row?.id as number,
        subject: 'shopstream.user.UserErased',
        version: 1,
        schema: JSON.stringify(row?.schema),
      }),
    )
    expect(await version.decode(bytes)).toMatchObject({ event: 'UserErased', data: userErased })
    await expect(version.encode('OrderPlaced', {})).rejects.toThrow('is no event of the registry')
  } finally {
    await version.close()
  }
})
