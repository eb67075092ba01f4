import { createLogger, type Logger } from '@shopstream/observability'

/** What a test gives to whatever wants a logger: silent, unless TEST_LOG_LEVEL names a level; then lines go to stderr. */
export function testLogger(): Logger {
  const level = process.env.TEST_LOG_LEVEL ?? 'silent'
  return createLogger({ service: 'test', level, format: 'json' }, { write: (line) => void process.stderr.write(line) })
}
