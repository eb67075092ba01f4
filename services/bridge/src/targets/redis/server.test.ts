import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { freePort, type LocalBroker, startRedis, temporaryFolder, whyNoRedis } from '@shopstream/local-servers'
import { createLogger } from '@shopstream/observability'
import { messageOf } from '../testing/conformance.ts'
import { openOutlet } from './outlet.ts'
import { clientOf } from './testing.ts'

const lacks = whyNoRedis()
const ifRedis = lacks ? describe.skip : describe
ifRedis(`what a bridge says of its Redis${lacks ? ` (skipped: it ${lacks})` : ''}`, () => {
  const password = 'a-secret-word'
  const dir = temporaryFolder('redis')
  let server: LocalBroker
  let client: Awaited<ReturnType<typeof clientOf>>
  beforeAll(async () => {
    server = await startRedis({ dir, port: await freePort(), password })
    client = await clientOf(server.url)
  })
  afterAll(async () => {
    client?.destroy()
    await server?.stop()
    rmSync(dir, { recursive: true, force: true })
  })

  /** What is logged while two batches go over one connection. */
  async function told(url = server.url) {
    const lines: string[] = []
    const logger = createLogger(
      { service: 'test', level: 'debug', format: 'json' },
      { write: (line) => lines.push(line) },
    )
    const outlet = openOutlet({ bridge: 'test', options: { url: 'REDIS_URL' }, url, logger })
    for (let batch = 0; batch < 2; batch += 1)
      expect(await outlet.send([messageOf('a', batch), messageOf('b', batch)])).toEqual([undefined, undefined])
    await outlet.close()
    return lines.map((line) => JSON.parse(line)).map(({ level, msg }) => `${level} ${msg}`)
  }

  const settings: [settings: Record<string, string>, said: RegExp[]][] = [
    [{ appendonly: 'yes', appendfsync: 'always' }, []],
    [{ appendonly: 'yes', appendfsync: 'everysec' }, [/^warn .*appendfsync everysec.*set appendonly yes and/]],
    [{ appendonly: 'yes', appendfsync: 'no' }, [/^warn .*appendfsync no: /]],
    [{ appendonly: 'no', appendfsync: 'always' }, [/^warn .*appendonly no: a restart loses/]],
  ]
  test.each(settings)('%j is told once for a connection, or not at all', async (set, said) => {
    await client.configSet(set)
    expect(await told()).toEqual(said.map((words) => expect.stringMatching(words)))
  })

  test('a user who may not ask goes on without a warning', async () => {
    await client.configSet({ appendonly: 'no' })
    await client.sendCommand(['ACL', 'SETUSER', 'writer', 'on', `>${password}`, '~*', '+@all', '-config'])
    expect(await told(server.url.replace('shopstream:', 'writer:'))).toEqual([
      expect.stringMatching(/^debug Redis does not say/),
    ])
  })
})
