import { Writable } from 'node:stream'
import { expect, test } from '@jest/globals'
import { childOf, createLogger, createMetrics, runInTrace } from './index.ts'

function capture(format: 'json' | 'pretty' = 'json') {
  const lines: string[] = []
  const logger = createLogger(
    { service: 'order', level: 'info', format },
    new Writable({
      write: (chunk, _, done) => {
        lines.push(String(chunk))
        done()
      },
    }),
  )
  return { logger, lines, last: () => JSON.parse(lines.at(-1) ?? '') as Record<string, unknown> }
}

test('a line is JSON with level, time, service and message', () => {
  const { logger, last } = capture()
  logger.info({ orderId: 'o1' }, 'placed')
  expect(last()).toEqual({ level: 'info', time: expect.any(String), service: 'order', orderId: 'o1', msg: 'placed' })
})

test.each([
  [{ password: 'hunter2' }],
  [{ body: { password: 'hunter2', passwordHash: 'hunter2' } }],
  [{ request: { headers: { authorization: 'Bearer hunter2', cookie: 'hunter2', 'set-cookie': ['hunter2'] } } }],
  [{ session: { accessToken: 'hunter2', refreshToken: 'hunter2', refresh_token: 'hunter2' } }],
  [{ a: { b: { c: { d: { email: 'hunter2', displayName: 'hunter2' } } } } }],
  [{ order: { lines: [{ note: { EMAIL: 'hunter2' } }] } }],
  [{ shippingAddress: { name: 'hunter2', line1: 'hunter2' } }],
  [{ config: { DATABASE_URL: 'postgres://u:hunter2@h/d', KEY_ENCRYPTION_SECRET: 'hunter2' } }],
  [{ users: new Map([['u1', { email: 'hunter2' }]]) }],
  [{ bytes: Buffer.from('hunter2') }],
  [Object.assign(new Error('failed'), { detail: 'Key (email)=(hunter2) already exists', parameters: ['hunter2'] })],
  [{ err: new Error('failed', { cause: Object.assign(new Error('inner'), { input: 'hunter2' }) }) }],
])('secrets and personal data are redacted: %#', (fields) => {
  const { logger, lines } = capture()
  logger.info(fields, 'line')
  logger.child({ fields }).info('of a child')
  logger.child({}).child({ deep: fields }).info('of a grandchild')
  expect(lines).toHaveLength(3)
  expect(lines.join()).not.toContain('hunter2')
})

test('what is not sensitive stays', () => {
  const { logger, last } = capture()
  const fields = { orderId: 'o1', lines: [{ sku: 'a', quantity: 2 }], at: new Date(0), none: null }
  logger.info(fields, 'placed')
  expect(last()).toMatchObject({ ...fields, at: '1970-01-01T00:00:00.000Z' })
})

test('an error is logged with its kind, code, stack and cause', () => {
  const { logger, last } = capture()
  const cause = Object.assign(new TypeError('inner'), { code: 'E1' })
  logger.error({ err: new Error('outer', { cause }) }, 'failed')
  expect(last().err).toMatchObject({
    type: 'Error',
    message: 'outer',
    stack: expect.stringContaining('logger.test'),
    cause: { type: 'TypeError', message: 'inner', code: 'E1' },
  })
})

test('an object that contains itself does not stop logging', () => {
  const { logger, lines } = capture()
  const fields: Record<string, unknown> = {}
  fields.self = fields
  logger.info(fields, 'line')
  expect(lines).toHaveLength(1)
})

test('lines within a trace carry its id', () => {
  const { logger, last } = capture()
  const trace = childOf(undefined)
  runInTrace(trace, () => logger.info('line'))
  expect(last()).toMatchObject({ traceId: trace.traceId })
})

test('readable lines are written at once', () => {
  const { logger, lines } = capture('pretty')
  logger.info({ orderId: 'o1', email: 'hunter2' }, 'placed')
  expect(lines.join()).toMatch(/INFO.*placed.*o1/)
  expect(lines.join()).not.toContain('hunter2')
})

test('metrics carry the service as a label', async () => {
  expect(await createMetrics('order').metrics()).toMatch(/process_cpu_seconds_total\{service="order"\}/)
})
