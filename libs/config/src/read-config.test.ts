import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from '@jest/globals'
import { ConfigError, dataSettings, readConfig, serviceSettings, settings, Type } from './index.ts'

const schema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  KEY_ENCRYPTION_SECRET: settings.secret('what private keys are encrypted with', { minLength: 32 }),
  SEED_CATALOGUE: settings.flag(false),
  METRICS_PORT: Type.Optional(settings.port()),
})

const complete = {
  PORT: '8081',
  DATABASE_URL: 'postgres://order:pass@127.0.0.1:54320/order',
  KAFKA_BROKERS: 'one:9092, two:9092',
  KEY_ENCRYPTION_SECRET: 'x'.repeat(32),
}

const problemsOf = (env: NodeJS.ProcessEnv): string[] => {
  try {
    readConfig(schema, env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

test('values are converted and defaults filled in', () => {
  const config = readConfig(schema, { ...complete, SEED_CATALOGUE: 'true', HOST: '', UNRELATED: 'x' })
  expect(config).toEqual({
    NODE_ENV: 'development',
    LOG_LEVEL: 'info',
    LOG_FORMAT: 'pretty',
    HOST: '127.0.0.1',
    OUTBOX_LIMIT_AGE_SECONDS: 300,
    OUTBOX_SHED_AGE_SECONDS: 3600,
    OUTBOX_SHED_BYTES: 1_073_741_824,
    PARKED_LIMIT_AGE_SECONDS: 3600,
    PARKED_LIMIT_COUNT: 1000,
    PORT: 8081,
    SHUTDOWN_TIMEOUT_MS: 10_000,
    DATABASE_URL: complete.DATABASE_URL,
    DATABASE_POOL_SIZE: 10,
    DATABASE_CONSUMER_POOL_SIZE: 6,
    KAFKA_BROKERS: ['one:9092', 'two:9092'],
    KAFKA_TLS: false,
    KAFKA_CLIENT: 'kafkajs',
    KAFKA_BATCH_LIMIT_BYTES: 16_777_216,
    KAFKA_TOPIC_PREFIX: '',
    KEY_ENCRYPTION_SECRET: complete.KEY_ENCRYPTION_SECRET,
    SEED_CATALOGUE: true,
  })
  expect(Object.isFrozen(config)).toBe(true)
})

test('logs are JSON in production unless told otherwise', () => {
  expect(readConfig(schema, { ...complete, NODE_ENV: 'production' }).LOG_FORMAT).toBe('json')
  expect(readConfig(schema, { ...complete, NODE_ENV: 'production', LOG_FORMAT: 'pretty' }).LOG_FORMAT).toBe('pretty')
})

test('every problem is listed at once, with what to set', () => {
  const problems = problemsOf({ PORT: '80a', LOG_LEVEL: 'loud', SEED_CATALOGUE: 'maybe', KAFKA_BROKERS: 'a:1,,b' })
  expect(problems).toEqual([
    'LOG_LEVEL is "loud", but must be one of trace, debug, info, warn, error, fatal, silent, for example LOG_LEVEL=info',
    'PORT is "80a", but must be a whole number from 0 to 65535 (the port to listen on), for example PORT=8080',
    expect.stringMatching(/^DATABASE_URL is missing: set it to a URL that starts with postgres:\/\/ or .* for example/),
    expect.stringMatching(/^KAFKA_BROKERS must be a list separated by commas .*for example KAFKA_BROKERS=127/),
    expect.stringMatching(/^KEY_ENCRYPTION_SECRET is missing: set it to a text of at least 32 characters/),
    expect.stringMatching(/^SEED_CATALOGUE is "maybe", but must be true or false/),
  ])
  expect(new ConfigError(problems).message).toMatch(/^6 settings are wrong in the environment:\n {2}- LOG_LEVEL/)
})

test.each([
  ['PORT', '65536'],
  ['PORT', '-1'],
  ['PORT', '1e3'],
  ['PORT', '80.5'],
  ['METRICS_PORT', 'no'],
  ['DATABASE_POOL_SIZE', '0'],
  ['DATABASE_URL', 'http://127.0.0.1/order'],
  ['DATABASE_URL', 'order'],
  ['KAFKA_BROKERS', 'localhost'],
])('%s=%s is refused', (name, value) => {
  expect(problemsOf({ ...complete, [name]: value })).toEqual([expect.stringContaining(name)])
})

test('the value of a secret or URL is in no error', () => {
  const problems = problemsOf({ ...complete, KEY_ENCRYPTION_SECRET: 'hunter2', DATABASE_URL: 'mysql://u:hunter2@h/d' })
  expect(problems).toHaveLength(2)
  expect(problems.join()).not.toContain('hunter2')
})

const certificate = '-----BEGIN CERTIFICATE-----\nMII'
const key = '-----BEGIN PRIVATE KEY-----\nMII'
const scram = { KAFKA_SASL_MECHANISM: 'scram-sha-512', KAFKA_SASL_USERNAME: 'order', KAFKA_SASL_PASSWORD: 'hunter2' }

test('what makes a whole with Kafka is taken', () => {
  const tls = { KAFKA_TLS: 'true', KAFKA_TLS_CA: certificate, KAFKA_TLS_CERT: certificate, KAFKA_TLS_KEY: key }
  expect(readConfig(schema, { ...complete, ...tls, ...scram })).toMatchObject({ ...tls, ...scram, KAFKA_TLS: true })
  expect(problemsOf({ ...complete, KAFKA_TLS: 'true' })).toEqual([])
  expect(problemsOf({ ...complete, ...scram })).toEqual([])
})

test.each<[NodeJS.ProcessEnv, string[]]>([
  [{ KAFKA_SASL_PASSWORD: 'hunter2' }, ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_USERNAME']],
  [{ KAFKA_SASL_USERNAME: 'order' }, ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_PASSWORD']],
  [{ KAFKA_SASL_MECHANISM: 'plain' }, ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD']],
  [{ ...scram, KAFKA_SASL_USERNAME: '' }, ['KAFKA_SASL_USERNAME']],
  [{ ...scram, KAFKA_SASL_MECHANISM: 'kerberos' }, ['KAFKA_SASL_MECHANISM']],
  [{ KAFKA_TLS_CA: certificate }, ['KAFKA_TLS']],
  [{ KAFKA_TLS: 'true', KAFKA_TLS_CERT: certificate }, ['KAFKA_TLS_KEY']],
  [{ KAFKA_TLS: 'true', KAFKA_TLS_KEY: key }, ['KAFKA_TLS_CERT']],
  [{ KAFKA_TLS_CERT: certificate }, ['KAFKA_TLS', 'KAFKA_TLS_KEY']],
  [{ KAFKA_TLS: 'true', KAFKA_TLS_CA: '/etc/ca.pem' }, ['KAFKA_TLS_CA']],
  [{ KAFKA_TLS: 'maybe', KAFKA_TLS_CA: certificate }, ['KAFKA_TLS']],
])('what makes no whole with Kafka is refused together: %j', (set, about) => {
  const problems = problemsOf({ ...complete, ...set })
  expect(problems.map((problem) => problem.split(' ', 1).join()).toSorted()).toEqual(about.toSorted())
  expect(problems.join()).not.toMatch(/hunter2|MII/)
})

test('a setting that others need says which ones, and what to do', () => {
  expect(problemsOf({ ...complete, KAFKA_SASL_USERNAME: 'order', KAFKA_SASL_PASSWORD: 'hunter2' })).toEqual([
    'KAFKA_SASL_MECHANISM is not set, and KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD have no effect without it: set it ' +
      '(one of plain, scram-sha-256, scram-sha-512 (how the password is proved to brokers), for example ' +
      'KAFKA_SASL_MECHANISM=scram-sha-512), or leave KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD out',
  ])
})

test('an empty variable counts as missing', () => {
  expect(problemsOf({ ...complete, DATABASE_URL: '' })).toEqual([expect.stringMatching(/^DATABASE_URL is missing/)])
})

describe('a secret or a URL in a file', () => {
  const dir = mkdtempSync(join(tmpdir(), 'shopstream-config-'))
  const fileWith = (text: string) => {
    const file = join(dir, String(Math.random()))
    writeFileSync(file, text)
    return file
  }
  const { DATABASE_URL, KEY_ENCRYPTION_SECRET, ...others } = complete
  afterAll(() => rmSync(dir, { recursive: true }))

  test('is read as if it stood in the environment, without the line break at its end', () => {
    const config = readConfig(schema, {
      ...others,
      DATABASE_URL_FILE: fileWith(`${DATABASE_URL}\n`),
      KEY_ENCRYPTION_SECRET_FILE: fileWith(`${KEY_ENCRYPTION_SECRET}\r\n`),
    })
    expect(config).toMatchObject({ DATABASE_URL, KEY_ENCRYPTION_SECRET })
  })

  test('is judged by the same rules, and never shown', () => {
    const problems = problemsOf({
      ...complete,
      KEY_ENCRYPTION_SECRET: '',
      KEY_ENCRYPTION_SECRET_FILE: fileWith('hunter2'),
    })
    expect(problems).toEqual([expect.stringMatching(/^KEY_ENCRYPTION_SECRET must be a text of at least 32 characters/)])
    expect(problems.join()).not.toContain('hunter2')
  })

  test('is refused beside the variable, where the file cannot be read, and for what holds no secret', () => {
    expect(problemsOf({ ...complete, DATABASE_URL_FILE: fileWith(DATABASE_URL) })).toEqual([
      'DATABASE_URL and DATABASE_URL_FILE are both set: set one of them',
    ])
    expect(problemsOf({ ...others, DATABASE_URL, KEY_ENCRYPTION_SECRET_FILE: join(dir, 'none') })).toEqual([
      expect.stringMatching(/^KEY_ENCRYPTION_SECRET_FILE names .*none, which cannot be read \(ENOENT\)/),
    ])
    expect(problemsOf({ ...complete, SERVICE_IDENTITY_SECRET_FILE: fileWith('\n') })).toEqual([
      expect.stringMatching(/^SERVICE_IDENTITY_SECRET_FILE names .*, which is empty/),
    ])
    expect(problemsOf({ ...complete, PORT: '', PORT_FILE: fileWith('8080') })).toEqual([
      expect.stringMatching(/^PORT is missing/),
    ])
  })
})
