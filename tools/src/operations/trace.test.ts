import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, jest, test } from '@jest/globals'
import { trace } from './trace.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const before = process.env.ZIPKIN_URL
const server = createServer()
afterEach(() => {
  if (before === undefined) delete process.env.ZIPKIN_URL
  else process.env.ZIPKIN_URL = before
  server.close()
  jest.restoreAllMocks()
})

test('ZIPKIN_URL may have a path, with or without a slash at its end', async () => {
  const asked: (string | undefined)[] = []
  server.on('request', ({ url }, response) => {
    asked.push(url)
    response.end(JSON.stringify([{ traceId, id: 'a', name: 'get', timestamp: 1 }]))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  jest.spyOn(console, 'log').mockImplementation(() => {})
  const { port } = server.address() as AddressInfo
  for (const path of ['', '/', '/tools/zipkin', '/tools/zipkin/']) {
    process.env.ZIPKIN_URL = `http://127.0.0.1:${port}${path}`
    expect(await trace([traceId, '--json'])).toBe(0)
  }
  const call = `/api/v2/trace/${traceId}`
  expect(asked).toEqual([call, call, `/tools/zipkin${call}`, `/tools/zipkin${call}`])
})
