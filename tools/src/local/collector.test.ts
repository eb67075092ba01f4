import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { repository, runCommand } from '@shopstream/local-servers'
import { parse } from 'yaml'
import { collectorFolder, collectorProgram } from './collector.ts'
import { defaultPorts } from './settings.ts'

interface Configuration {
  receivers?: Record<string, unknown>
  processors?: Record<string, unknown>
  exporters?: Record<string, unknown>
  extensions?: Record<string, unknown>
  service?: {
    extensions?: string[]
    pipelines?: Record<string, { receivers: string[]; processors: string[]; exporters: string[] }>
  }
}

const read = (file: string): string => readFileSync(file, 'utf8')
const base = join(collectorFolder, 'collector.yaml')
const common: Configuration = parse(read(base))
const seconds = readdirSync(collectorFolder).filter((name) => name.endsWith('.yaml') && name !== 'collector.yaml')
const pages = readdirSync(join(repository, 'docs/monitoring')).filter(
  (name) => !['README.md', 'prometheus.md'].includes(name),
)

/** Of distributions alone: Go's proxy of modules has no such module. */
const notOurs = ['azure-monitor.yaml']

const program = collectorProgram()
const isBuilt = existsSync(program)
if (!isBuilt)
  console.warn('no collector is here, so that none loads its configurations: npm run collector -- components')

/** Stands for what whoever runs the collector knows. */
const environment = {
  AWS_REGION: 'eu-central-1',
  AWS_ACCESS_KEY_ID: 'id',
  AWS_SECRET_ACCESS_KEY: 'secret',
  SENTRY_OTLP_URL: 'https://sentry.example/api/1/integration/otlp',
  TRACE_STORE_URL: 'http://127.0.0.1:1',
  TRACE_FILE: '/dev/null',
}

describe.each(seconds)('%s', (name) => {
  const text = read(join(collectorFolder, name))
  const own: Configuration = parse(text)
  const all = (kind: 'receivers' | 'processors' | 'exporters') => Object.keys({ ...common[kind], ...own[kind] })

  test('names what there is, guards its memory first, and replaces nothing of the base', () => {
    const pipelines = Object.values(own.service?.pipelines ?? {})
    expect(pipelines.length).toBeGreaterThan(0)
    for (const pipeline of pipelines) {
      for (const kind of ['receivers', 'processors', 'exporters'] as const)
        expect(all(kind)).toEqual(expect.arrayContaining(pipeline[kind]))
      expect(pipeline.processors[0]).toBe('memory_limiter')
    }
    expect(Object.keys(own.extensions ?? {})).toEqual(own.service?.extensions ?? [])
    for (const kind of ['receivers', 'processors', 'exporters'] as const)
      for (const id of Object.keys(common[kind] ?? {})) expect(own[kind] ?? {}).not.toHaveProperty([id])
  })

  test('has no secret in it: each header and key is the environment’s', () => {
    const held = Object.values(own.exporters ?? {}).flatMap((exporter) => {
      const { headers = {}, connection_string } = exporter as { headers?: object; connection_string?: string }
      return [...Object.entries(headers), ...(connection_string ? [['connection_string', connection_string]] : [])]
    })
    for (const [key, value] of held) if (key !== 'compute_stats') expect(value).toMatch(/\$\{env:[A-Z_]+\}$/)
  })

  const why = notOurs.includes(name) ? ', not by ours, which lacks its exporter' : isBuilt ? '' : ', but none is built'
  const loads = why === '' ? test : test.skip
  loads(`is loaded by a collector${why}`, () => validate(base, join(collectorFolder, name)), 60_000)
})

/** Throws with what the collector has against them. */
const validate = async (...files: string[]): Promise<void> => {
  await runCommand(program, ['validate', ...files.map((file) => `--config=${file}`)], {
    env: { ...process.env, ...Object.fromEntries(named().map((name) => [name, 'x'])), ...environment },
  })
}

/** Every variable that a configuration wants and has no default for. */
const named = () =>
  seconds.flatMap((name) =>
    [...read(join(collectorFolder, name)).matchAll(/\$\{env:([A-Z_]+)\}/g)].map(([, one]) => one),
  )

test('each page has its configuration, and names each variable of it', () => {
  for (const page of pages) {
    const text = read(join(repository, 'docs/monitoring', page))
    const file = page.replace('.md', '.yaml')
    expect(text).toContain(`infra/collector/${file}`)
    for (const [, name] of read(join(collectorFolder, file)).matchAll(/\$\{env:([A-Z_]+)/g))
      expect(text).toContain(name)
  }
  expect(pages.length).toBe(6)
})

test('metrics are asked for where npm start has them', () => {
  const { METRICS_TARGETS = '' } = Object.fromEntries(
    [...read(base).matchAll(/\$\{env:([A-Z_]+):-(.*)\}$/gm)].map(([, name, value]) => [name, value]),
  )
  const { GATEWAY_METRICS_PORT, USER_PORT, ORDER_PORT, INVENTORY_PORT, NOTIFICATION_PORT } = defaultPorts
  const ports = [USER_PORT, ORDER_PORT, INVENTORY_PORT, NOTIFICATION_PORT, GATEWAY_METRICS_PORT]
  expect(parse(METRICS_TARGETS)).toEqual(ports.map((port) => `127.0.0.1:${port}`))
})
