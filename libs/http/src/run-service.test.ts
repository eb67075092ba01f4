import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from '@jest/globals'
import { eventually } from '@shopstream/testing'

/** Runs a process that does what `service` says with what `runService` gives it. */
function run(service: string, env: Record<string, string>, args: string[] = []) {
  const source = `
    import { runService } from ${JSON.stringify(new URL('./run-service.ts', import.meta.url).href)}
    import { serviceSettings, settings, Type } from '@shopstream/config'
    const config = Type.Object({ ...serviceSettings, SMTP_URL: settings.url('the mail server', { protocols: ['smtp'] }) })
    setInterval(() => {}, 1000)
    await runService({ name: 'test', config, build: async (config, logger) => (${service}) })
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', source, 'main.js', ...args], {
    cwd: import.meta.dirname,
    env: { PATH: process.env.PATH, LOG_FORMAT: 'json', ...env },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
    })
  return {
    child,
    output: () => output,
    exitCode: async () => {
      const [code] = child.exitCode === null ? await once(child, 'close') : [child.exitCode]
      return code as number | null
    },
  }
}

const good = { PORT: '8080', SMTP_URL: 'smtp://127.0.0.1:1025' }
const started = `{ start: async () => logger.info('started'), stop: async () => {} }`

test('everything that is wrong in the environment is printed, and nothing starts', async () => {
  const service = run(started, { PORT: 'x', LOG_LEVEL: 'loud', SMTP_URL: 'http://user:hunter2@h' })
  expect(await service.exitCode()).toBe(1)
  for (const name of ['PORT', 'LOG_LEVEL', 'SMTP_URL']) expect(service.output()).toContain(`- ${name}`)
  expect(service.output()).not.toMatch(/hunter2|started|at .*\.ts/)
})

const migrates = `{ start: async () => logger.info('started'), stop: async () => {}, migrate: async () => logger.info('migrated') }`

test('with the argument migrate it brings the database up to date, and ends', async () => {
  const service = run(migrates, good, ['migrate'])
  expect(await service.exitCode()).toBe(0)
  expect(service.output()).toContain('"migrated"')
  expect(service.output()).not.toContain('"started"')
})

test('stopped while it migrates, it does not end as if it had', async () => {
  const pending = `{ start: async () => {}, stop: async () => {}, migrate: async () => { logger.info('waiting'); await new Promise(() => {}) } }`
  const service = run(pending, good, ['migrate'])
  await eventually('the migration has begun', () => service.output().includes('"waiting"'))
  service.child.kill('SIGTERM')
  expect(await service.exitCode()).toBe(1)
})

test('a service without a database has nothing to migrate, and says so', async () => {
  const service = run(started, good, ['migrate'])
  expect(await service.exitCode()).toBe(1)
  expect(service.output()).toContain('has no database')
})

test.each([
  ['--help', 0],
  ['migrat', 2],
] as const)('the argument %s prints how it is run and each setting, and nothing starts', async (argument, code) => {
  const service = run(started, {}, [argument])
  expect(await service.exitCode()).toBe(code)
  expect(service.output()).toMatch(/^ {2}SMTP_URL: a URL that starts with smtp:\/\/, the mail server \(must be set\)$/m)
  expect(service.output()).toMatch(/^ {2}LOG_LEVEL: one of .* \(default: info\)$/m)
  expect(service.output()).not.toContain('"started"')
})

test.each(['SIGTERM', 'SIGINT'] as const)('%s stops it cleanly', async (signal) => {
  const service = run(started, good)
  await eventually('the service has started', () => service.output().includes('started'))
  service.child.kill(signal)
  service.child.kill('SIGTERM') // as a supervisor adds
  expect(await service.exitCode()).toBe(0)
  expect(service.output()).toContain('"stopped"')
})

test('one that does not stop in time is ended with exit code 1', async () => {
  const stuck = `{ start: async () => logger.info('started'), stop: () => new Promise(() => {}) }`
  const service = run(stuck, { ...good, SHUTDOWN_TIMEOUT_MS: '100' })
  await eventually('the service has started', () => service.output().includes('started'))
  service.child.kill('SIGTERM')
  expect(await service.exitCode()).toBe(1)
  expect(service.output()).toContain('not stopped after 100 ms')
})

test.each([
  ['a start that fails', `{ start: async () => { throw new Error('no port') }, stop: async () => {} }`, 'no port'],
  [
    'an error that nobody handled',
    `{ start: async () => { setTimeout(() => { throw new Error('lost') }) }, stop: async () => {} }`,
    'lost',
  ],
  [
    'a rejection that nobody handled',
    `{ start: async () => { Promise.reject(new Error('lost')) }, stop: async () => {} }`,
    'lost',
  ],
])('%s is logged and ends the process with exit code 1', async (_, source, words) => {
  const service = run(source, good)
  expect(await service.exitCode()).toBe(1)
  const fatal = service
    .output()
    .split('\n')
    .filter((line) => line.includes('"fatal"'))
  expect(fatal).toEqual([expect.stringContaining(words)])
})
