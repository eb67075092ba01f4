import { expect, test } from '@jest/globals'
import type { BridgeRow } from '../../row.ts'
import { problemsOf } from '../../table.ts'

const row = (redis: object, more: Partial<BridgeRow> = {}): BridgeRow => ({
  name: 'out',
  send: ['OrderShipped'],
  to: { redis: { url: 'REDIS_URL', ...redis } },
  ...more,
})

test.each<[string, BridgeRow, string[]]>([
  ['a stream', row({ stream: 'shop:{aggregate}', groups: ['a', 'b'], maxLength: 10, replicas: 1 }), []],
  ['a queue', row({ queue: 'celery', priority: 3 }, { form: 'celery' }), []],
  [
    'both',
    row({ queue: 'celery', stream: 'shop' }, { form: 'celery' }),
    ['bridge out: to.redis has both stream and queue: one of them'],
  ],
  [
    'a queue of events',
    row({ queue: 'celery' }),
    ["bridge out: to.redis has queue, which is Celery's: it needs form: celery"],
  ],
  [
    'a stream of tasks',
    row({ priority: 3 }, { form: 'celery' }),
    [
      'bridge out: to.redis has priority, which a stream has not',
      'bridge out: to.redis lacks queue, from which workers take tasks: such as queue: celery',
    ],
  ],
  [
    'a wrong limit',
    row({ maxLength: 0 }),
    ['bridge out: to.redis.maxLength must be a whole number of entries, from which on it is full; default 100,000'],
  ],
])('a row with %s', (_, judged, problems) => {
  const found = problemsOf([{ row: judged, file: 'a.yaml', number: 1 }], { REDIS_URL: 'redis://127.0.0.1' })
  expect(found).toEqual(problems.map((problem) => `a.yaml: ${problem}`))
})
