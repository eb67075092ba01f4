import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from '@jest/globals'
import type { LockEntry } from '@shopstream/events/codec'
import { publishCommand, publishLock, RegistryFailure } from './publish.ts'

const row = (id: number, subject: string, version: number): LockEntry => ({
  id,
  subject,
  version,
  fingerprint: '',
  schema: { type: 'record', name: subject, fields: [{ name: `v${version}`, type: 'int', default: 0 }] },
})
const lock = [row(100_001, 'a.A', 1), row(100_002, 'a.B', 1), row(100_005, 'a.A', 2)]

/** How a registry takes ids: as asked in import mode, never, or never although it says so. */
type Kind = 'imports' | 'has no modes' | 'ignores ids'

let server: Server | undefined
afterEach(() => {
  server?.close()
})

/** As much of a registry as publishing asks for, which fails where it is told to; real ones were tried by hand. */
async function startRegistry(
  kind: Kind,
  trouble: (method: string, path: string) => number | 'cut' | undefined = () => undefined,
) {
  const stored: { subject: string; schema: string; id: number; version: number }[] = []
  const modes = new Map<string, string>()
  const asked: string[] = []
  const answer = (
    method: string,
    path: string,
    body: { schema: string; id?: number; version?: number; mode: string },
  ) => {
    const [, kindOf, subject = '', more] = path.split('/')
    if (path === '/subjects') return [200, []] as const
    if (kindOf === 'mode') {
      if (kind === 'has no modes') return [404, { error_code: 404, message: 'HTTP 404 Not Found' }] as const
      if (method === 'PUT') modes.set(subject, body.mode)
      if (method === 'DELETE') modes.delete(subject)
      const mode = modes.get(subject)
      return method === 'GET' && mode === undefined
        ? ([404, { error_code: 40409, message: 'no mode' }] as const)
        : ([200, { mode }] as const)
    }
    const ofSubject = stored.filter((one) => one.subject === subject)
    if (method === 'GET') return [200, ofSubject.map(({ version }) => version)] as const
    if (more === undefined) {
      const found = ofSubject.find(({ schema }) => schema === body.schema)
      return found ? ([200, found] as const) : ([404, { error_code: 40403, message: 'Schema not found' }] as const)
    }
    const imported = kind === 'imports' && modes.get(subject) === 'IMPORT'
    const id = (imported && body.id) || stored.length + 1
    stored.push({ subject, schema: body.schema, id, version: (imported && body.version) || ofSubject.length + 1 })
    return [200, { id }] as const
  }
  server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    const path = url.split('?', 1)[0] ?? ''
    asked.push(`${method} ${path} ${headers.authorization ?? ''}`.trim())
    const text = Buffer.concat(await request.toArray()).toString()
    const status = trouble(method, path)
    if (status === 'cut') {
      response.writeHead(200, { 'content-length': 100 }).write('{', () => response.destroy())
      return
    }
    const [code, body] = status ? [status, { message: 'trouble' }] : answer(method, path, text ? JSON.parse(text) : {})
    response.writeHead(code, { location: 'http://elsewhere.example' }).end(JSON.stringify(body))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, stored, modes, asked }
}

const outcomes = (publications: { id: number; outcome: string }[]) =>
  Object.fromEntries(publications.map(({ id, outcome }) => [id, outcome]))
const all = (outcome: string) => Object.fromEntries(lock.map(({ id }) => [id, outcome]))

test('every version is published under its id, once, and the mode is put back', async () => {
  const registry = await startRegistry('imports')
  registry.modes.set('a.B', 'READWRITE')
  expect(outcomes(await publishLock(lock, { url: `${registry.url}/` }))).toEqual(all('published'))
  const kept = registry.stored.map(({ id, subject, version }) => ({ id, subject, version }))
  expect(kept.toSorted((one, other) => one.id - other.id)).toEqual(
    lock.map(({ id, subject, version }) => ({ id, subject, version })),
  )
  expect([...registry.modes]).toEqual([['a.B', 'READWRITE']])
  expect(outcomes(await publishLock(lock, { url: registry.url }))).toEqual(all('there'))
  expect(registry.stored).toHaveLength(lock.length)
})

test('a dry run changes nothing', async () => {
  const registry = await startRegistry('imports')
  expect(outcomes(await publishLock(lock, { url: registry.url, dryRun: true }))).toEqual(all('missing'))
  expect([registry.stored, [...registry.modes]]).toEqual([[], []])
})

describe('a registry that cannot keep ids', () => {
  test('without modes gets nothing unless that is wanted', async () => {
    const registry = await startRegistry('has no modes')
    expect(outcomes(await publishLock(lock, { url: registry.url }))).toEqual(all('missing'))
    expect(registry.stored).toEqual([])
    const publications = await publishLock(lock, { url: registry.url, otherIds: true })
    expect(outcomes(publications)).toEqual(all('other-id'))
    expect(publications.map(({ theirId }) => theirId)).toEqual(expect.arrayContaining([1, 2, 3]))
    expect(outcomes(await publishLock(lock, { url: registry.url }))).toEqual(all('other-id'))
  })

  test('that says it does is found out with the first version, and its mode is put back', async () => {
    const registry = await startRegistry('ignores ids')
    await expect(publishLock(lock, { url: registry.url })).rejects.toThrow('version 1 of a.A under 1, not 100001')
    expect([registry.stored.length, [...registry.modes]]).toEqual([1, []])
  })
})

test('a failure on the way puts the mode back, and the next run goes on from there', async () => {
  let fails = true
  const registry = await startRegistry('imports', (method, path) =>
    fails && method === 'POST' && path === '/subjects/a.B/versions' ? 500 : undefined,
  )
  await expect(publishLock(lock, { url: registry.url })).rejects.toThrow('version 1 of a.B with 500: trouble')
  expect([...registry.modes]).toEqual([])
  fails = false
  const now = outcomes(await publishLock(lock, { url: registry.url }))
  expect(now).toEqual({ ...all('there'), 100002: 'published' })
})

test('a mode that cannot be asked for or set is no reason to give up the ids', async () => {
  const registry = await startRegistry('imports', (method) => (method === 'PUT' ? 500 : undefined))
  await expect(publishLock(lock, { url: registry.url, otherIds: true })).rejects.toThrow(
    'entering import mode with 500',
  )
  expect(registry.stored).toEqual([])
})

test('an import mode that a killed run has left is ended', async () => {
  const registry = await startRegistry('imports')
  registry.modes.set('a.A', 'IMPORT')
  await publishLock(lock, { url: registry.url })
  expect([...registry.modes]).toEqual([])
})

test('a version that has another schema there is not replaced', async () => {
  const registry = await startRegistry('imports')
  registry.stored.push({ subject: 'a.A', schema: '"int"', id: 5, version: 2 })
  await expect(publishLock(lock, { url: registry.url })).rejects.toThrow('another schema as version 2 of a.A')
  expect([registry.stored.length, [...registry.modes]]).toEqual([1, []])
})

test('a version under its id but another number is said to be so', async () => {
  const registry = await startRegistry('imports')
  await publishLock(lock, { url: registry.url })
  for (const one of registry.stored) one.version += 1
  const publications = await publishLock(lock, { url: registry.url })
  expect(publications.map(({ outcome, version, theirVersion }) => [outcome, theirVersion === version + 1])).toEqual(
    lock.map(() => ['there', true]),
  )
})

test('what fails and then cannot put the mode back says both', async () => {
  const { url } = await startRegistry('imports', (method, path) =>
    path.endsWith('/versions') ? (method === 'GET' ? undefined : 500) : method === 'DELETE' ? 503 : undefined,
  )
  await expect(publishLock(lock, { url })).rejects.toThrow(
    /publishing version 1 of a\.A with 500.*\n.*mode of a\.A, which is IMPORT now, with 503/,
  )
})

test('a mode that cannot be put back is told, though all is published', async () => {
  const { url } = await startRegistry('imports', (method) => (method === 'DELETE' ? 503 : undefined))
  await expect(publishLock(lock, { url })).rejects.toThrow('mode of a.A, which is IMPORT now, with 503')
})

test('who stops it gets the mode back', async () => {
  const stopping = new AbortController()
  const registry = await startRegistry('imports', (_, path) => {
    if (path === '/subjects/a.A/versions') stopping.abort()
    return undefined
  })
  await expect(publishLock(lock, { url: registry.url, signal: stopping.signal })).rejects.toThrow('Stopped.')
  expect([registry.stored, [...registry.modes]]).toEqual([[], []])
})

test('who has stopped it lets it look for no schema', async () => {
  const { url, asked } = await startRegistry('imports')
  await expect(publishLock(lock, { url, signal: AbortSignal.abort() })).rejects.toThrow('Stopped.')
  expect(asked).toEqual(['GET /subjects'])
})

test('what answers 200 to everything is not taken for a registry', async () => {
  const { url } = await startRegistry('imports', () => 200)
  await expect(publishLock(lock, { url })).rejects.toThrow('as no schema registry does')
})

test('an answer that ends in its middle is told in words', async () => {
  const { url } = await startRegistry('imports', () => 'cut')
  await expect(publishLock(lock, { url })).rejects.toThrow(/cannot be reached: .+/)
})

test.each([
  [401, 'SCHEMA_REGISTRY_USER'],
  [302, 'http://elsewhere.example'],
  [500, 'with 500: trouble'],
  [404, 'no schema registry answers'],
])('an answer of %d is told in words', async (status, words) => {
  const { url } = await startRegistry('imports', () => status)
  const credentials = { user: 'me', password: 'hunter2' }
  const failure = await publishLock(lock, { url, credentials }).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(RegistryFailure)
  expect((failure as Error).message).toContain(words)
  expect((failure as Error).message).not.toContain('hunter2')
})

test('credentials are sent', async () => {
  const { url, asked } = await startRegistry('imports')
  await publishLock(lock.slice(0, 1), { url, credentials: { user: 'me', password: 'hunter2' } })
  expect(asked.every((one) => one.endsWith(`Basic ${Buffer.from('me:hunter2').toString('base64')}`))).toBe(true)
})

test('nobody there is told in words', async () => {
  const { url } = await startRegistry('imports')
  server?.close()
  await expect(publishLock(lock, { url })).rejects.toThrow(/cannot be reached: .*ECONNREFUSED/)
})

test.each([
  [[]],
  [['--to', 'ftp://x']],
  [['--to', 'registry']],
  [['--to', 'http://me:secret@x']],
  [['--to', 'http://x?y']],
])('publish %j is no command', async (args) => {
  await expect(publishCommand(args, {})).rejects.toThrow('--to takes')
})

test('half of the credentials is no credentials', async () => {
  await expect(publishCommand(['--to', 'http://127.0.0.1:1'], { SCHEMA_REGISTRY_USER: 'me' })).rejects.toThrow('both')
})
