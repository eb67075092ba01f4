/** infra/prometheus and infra/grafana ask for what is measured, and Prometheus' own programs take them. */
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { createMetrics } from '@shopstream/observability'
import { repository } from '@shopstream/testing'
import { parse } from 'yaml'
import { isOnPath } from '../../local/on-path.ts'
import { serviceNames } from '../../local/services.ts'
import { dashboards } from './grafana.ts'
import { questions } from './questions.ts'

const folder = 'infra/prometheus'
const read = (file: string) => readFileSync(join(repository, file), 'utf8')

interface Rule {
  alert?: string
  record?: string
  expr: string
  labels?: Record<string, string>
}
const rulesOf = (file: string) =>
  (parse(read(`${folder}/${file}`)) as { groups: { rules: Rule[] }[] }).groups.flatMap(({ rules }) => rules)
const recorded = rulesOf('rules.yml')
const alerts = rulesOf('alerts.yml')

/** By metric, its labels: what our sources register, what prom-client measures of each process, and what is recorded. */
const metrics = new Map<string, readonly string[]>([
  ...createMetrics('any')
    .getMetricsAsArray()
    .map(({ name }): [string, string[]] => [name, []]),
  ...recorded.map(({ record = '' }): [string, string[]] => [record, record.split(':', 1).join().split('_')]),
  ['ALERTS', ['alertname', 'alertstate']],
])
for (const file of globSync('{libs,services}/*/src/**/*.ts', { cwd: repository }))
  for (const [, kind, name = '', labels = ''] of read(file).matchAll(
    /(Histogram)?(?:<\w+>)?\(?\{\s+name: '((?:shopstream|http)_\w+)',\s+help: [^\n]*(?:\n\s+labelNames: \[([^\]]*)\])?/g,
  )) {
    const own = labels.match(/\w+/g) ?? []
    for (const suffix of kind ? ['_bucket', '_count', '_sum'] : [''])
      metrics.set(name + suffix, kind ? [...own, 'le'] : own)
  }

const words = ['and', 'or', 'unless', 'offset', 'by', 'on', 'bool']

/** The metrics that a query names, and its labels. */
function namesIn(expr: string) {
  const noText = expr.replaceAll(/"[^"]*"/g, '""')
  const grouped = [...noText.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap(([, list = '']) => list.match(/\w+/g) ?? [])
  const selected = [...noText.matchAll(/\{([^}]*)\}/g)].flatMap(([, list = '']) => list.match(/\w+(?=\s*[=!])/g) ?? [])
  const bare = noText
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)|offset \d+\w/g, '')
    .match(/[a-zA-Z_][\w:]*(?!\s*\(|[\w:])/g)
  return { asked: bare?.filter((name) => !words.includes(name)) ?? [], labels: [...grouped, ...selected] }
}

const common = ['service', 'instance'] // the registry's own, and the one that Prometheus adds
const queries: [where: string, expr: string][] = [
  ...recorded.map(({ record = '', expr }): [string, string] => [record, expr]),
  ...alerts.map(({ alert = '', labels, expr }): [string, string] => [`${alert} (${labels?.severity})`, expr]),
  ...dashboards.flatMap(({ name, rows }) =>
    rows.flatMap(({ panels }) =>
      panels.flatMap((panel) => panel.queries.map(({ expr }): [string, string] => [`${name}: ${panel.title}`, expr])),
    ),
  ),
  ...questions.map(([question, query]): [string, string] => [question, query]),
]

test.each(queries)('%s asks for metrics and labels that are there', (_, expr) => {
  const { asked, labels } = namesIn(expr)
  expect(asked.length).toBeGreaterThan(0)
  for (const name of asked) expect([...metrics.keys()]).toContain(name)
  const known = asked.flatMap((name) => metrics.get(name) ?? [])
  for (const label of labels) expect([...common, ...known]).toContain(label)
})

interface Case {
  promql_expr_test: { expr: string; exp_samples: { labels: string }[] }[]
}
const cases = ['alerts.test.yml', 'alerts-of-weeks.test.yml'].flatMap(
  (file) => (parse(read(`${folder}/${file}`)) as { tests: Case[] }).tests,
)
/** Whether a query for ALERTS would show this one. */
const shows = (expr: string, alert: string) => {
  const [, is = '', names = ''] = /\balertname(!?=~?)"([^"]+)"/.exec(expr) ?? []
  return is.startsWith('!') !== names.split('|').includes(alert) || is === ''
}

test('each alert has a service and one of three severities, and is tried: when it is on, and in the same case when it is not', () => {
  const samplesOf = (one: Case, alert: string) =>
    one.promql_expr_test.filter(({ expr }) => shows(expr, alert)).map(({ exp_samples }) => exp_samples)
  const isOn =
    ({ alert, labels }: Rule) =>
    (samples: { labels: string }[]) =>
      samples.some((sample) =>
        [`alertname="${alert}"`, 'alertstate="firing"', `severity="${labels?.severity}"`].every((label) =>
          sample.labels.includes(label),
        ),
      )
  for (const { labels, expr } of alerts) {
    expect(['critical', 'warning', 'none']).toContain(labels?.severity)
    expect(labels?.service ?? expr).toMatch(/\w/)
  }
  const untried = alerts.filter(
    (rule) =>
      !cases
        .map((one) => samplesOf(one, rule.alert ?? ''))
        .some((all) => all.some(isOn(rule)) && all.some((samples) => samples.length === 0)),
  )
  expect(untried.map(({ alert, labels }) => `${alert} (${labels?.severity})`)).toEqual([])
})

test('ServiceAway asks for each service by its name', () => {
  const { expr = '' } = alerts.find(({ alert }) => alert === 'ServiceAway') ?? {}
  const asked = [...expr.matchAll(/absent\(shopstream_service_info\{service="(\w+)"\}\)/g)].map(([, name]) => name)
  expect(asked).toEqual(serviceNames)
})

test('events of compacted topics, which may be read from their start again, do not count as late', () => {
  const lock = JSON.parse(read('schemas/topics.lock.json')) as Record<string, { cleanup: string }>
  const compacted = Object.keys(lock).filter((topic) => lock[topic]?.cleanup === 'compact')
  const asked = queries.flatMap(([, expr]) =>
    [...expr.matchAll(/\btopic!~"([^"]+)"/g)].map(([, topics = '']) => topics),
  )
  expect(asked.length).toBeGreaterThan(10)
  for (const pattern of asked)
    expect(Object.keys(lock).filter((topic) => new RegExp(`^(?:${pattern})$`).test(topic))).toEqual(compacted)
  for (const { record, expr } of recorded)
    if (expr.includes('event_age_seconds'))
      expect([record, expr.split('event_age_seconds').length]).toEqual([record, expr.split('topic!~').length])
})

test('alertmanager.yml holds back alerts that exist, and its messages go to no address with a secret', () => {
  const text = read(`${folder}/alertmanager.yml`)
  const named = [...text.matchAll(/alertname!?=~?"([^"]+)"/g)].flatMap(([, names = '']) => names.split('|'))
  expect(named.length).toBeGreaterThan(10)
  for (const name of named) expect(alerts.map(({ alert }) => alert)).toContain(name)
  expect(text).not.toMatch(/^\s+(?:api_url|routing_key|service_key|auth_password|credentials|password|token):/m)
})

test('each service is scraped, and has its dashboard', () => {
  const targets = (file: string) => parse(read(`${folder}/${file}`)).scrape_configs[0].static_configs[0].targets
  expect(targets('prometheus.yml')).toHaveLength(serviceNames.length)
  expect(targets('prometheus.compose.yml').map((target: string) => target.split(':')[0])).toEqual(serviceNames)
  expect(dashboards.map(({ name }) => name)).toEqual(expect.arrayContaining([...serviceNames]))
})

test('dashboards are in order: panels have texts and legends, ids are unique, none overlaps another', () => {
  for (const { name } of dashboards) {
    const board = JSON.parse(read(`infra/grafana/dashboards/${name}.json`))
    const taken = new Set<string>()
    expect(new Set(board.panels.map(({ id }: { id: number }) => id)).size).toBe(board.panels.length)
    for (const { type, title, description, gridPos, targets = [] } of board.panels) {
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect([name, title, x < 24, taken.has(`${x}/${y}`)]).toEqual([name, title, true, false])
          taken.add(`${x}/${y}`)
        }
      if (type === 'row') continue
      expect(description.length).toBeGreaterThan(5)
      expect(targets.length).toBeGreaterThan(0)
      for (const { expr, legendFormat } of targets)
        for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
          expect([title, ...namesIn(expr).labels, 'instance', 'service']).toContain(label)
    }
  }
})

/** Commands of Prometheus and Alertmanager, in infra/prometheus. */
const commands: [command: string, debianPackage: string][] = [
  ['promtool check config prometheus.yml prometheus.compose.yml', 'prometheus'],
  ['promtool check rules rules.yml alerts.yml', 'prometheus'],
  ['promtool test rules alerts.test.yml', 'prometheus'],
  ['promtool test rules alerts-of-weeks.test.yml', 'prometheus'],
  ['amtool check-config alertmanager.yml', 'prometheus-alertmanager'],
]
for (const [command, debianPackage] of commands) {
  const [program = '', ...args] = command.split(' ')
  if (!isOnPath(program))
    test.skip(`${command}: skipped, this machine lacks ${program}: apt-get install ${debianPackage}`, () => {})
  else
    test(command, () => {
      const { stdout, stderr, status } = spawnSync(program, args, { cwd: join(repository, folder), encoding: 'utf8' })
      expect([status, status === 0 ? '' : `${stdout}${stderr}`]).toEqual([0, ''])
    }, 300_000)
}
