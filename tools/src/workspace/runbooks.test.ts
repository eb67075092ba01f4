/** docs/runbooks/ has a page for whatever may wake somebody. */
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { parse } from 'yaml'
import { checksFor } from '../operations/verify/checks.ts'
import { readWiring, withSchemas } from '../schemas/wiring.ts'

const read = (file: string) => readFileSync(join(repository, file), 'utf8')
const folder = 'docs/runbooks'
const pages = readdirSync(join(repository, folder)).sort()
const textOf = (page: string) => read(join(folder, page))

interface Alert {
  alert: string
  labels: { severity: string }
  annotations: { runbook: string }
}
/** Of severity `none` nobody is told. */
const alerts = (parse(read('infra/prometheus/alerts.yml')) as { groups: { rules: Alert[] }[] }).groups
  .flatMap(({ rules }) => rules)
  .filter(({ labels }) => labels.severity !== 'none')
const checks = checksFor(withSchemas(await readWiring(repository))).map(({ name }) => `${folder}/${name}.md`)

test('each alert and each check of verify has its page, and there is no page without either', () => {
  const wanted = [...alerts.map(({ annotations }) => annotations.runbook), ...checks]
  const more = ['README.md', 'restore-a-database.md'].map((page) => `${folder}/${page}`)
  expect(pages.map((page) => `${folder}/${page}`)).toEqual([...new Set([...wanted, ...more])].sort())
})

test('the index has each page, and names each alert', () => {
  const index = textOf('README.md')
  for (const page of pages.filter((one) => one !== 'README.md')) expect(index).toContain(`](${page})`)
  for (const { alert, annotations } of alerts)
    expect(index).toMatch(new RegExp(`\\| \`${alert}\` .*\\]\\(${annotations.runbook.replace(`${folder}/`, '')}\\)`))
})

/** As GitHub makes them of headings. */
const anchorsOf = (text: string) =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )

describe.each(pages)('%s', (page) => {
  test('its links resolve', () => {
    for (const [, file = '', anchor] of textOf(page).matchAll(/\]\(([^)#\s]*)(?:#([^)]*))?\)/g)) {
      const target = join(folder, file === '' ? page : file)
      expect([target, existsSync(join(repository, target))]).toEqual([target, true])
      if (anchor !== undefined) expect([target, ...anchorsOf(read(target))]).toContain(anchor)
    }
  })

  test('its commands exist, with their options', async () => {
    for (const [line, command = '', rest = ''] of textOf(page).matchAll(/npm run shop -- ([a-z-]+)([^`\n]*)/g)) {
      const { usage } = (await import(`../operations/${command}.ts`)) as { usage: string }
      expect(usage).toMatch(new RegExp(`^Usage: npm run shop -- ${command} `))
      const [given = ''] = rest.split(' #')
      for (const [option] of given.matchAll(/(?<= )--[a-z-]+/g))
        expect([line, ...(usage.match(/--[a-z-]+/g) ?? [])]).toContain(option)
      if (command === 'dead-letters') expect(usage).toContain(`\n  ${given.trim().split(' ')[0]} `)
    }
  })

  test('its checks of verify exist', () => {
    for (const [, names = ''] of textOf(page).matchAll(/--only ([a-z-]+(?:,[a-z-]+)*)`/g))
      for (const name of names.split(',')) if (name.includes('-')) expect(checks).toContain(`${folder}/${name}.md`)
  })
})

test('each page that a command names is there', () => {
  for (const file of globSync('tools/src/operations/**/*.ts', { cwd: repository }).filter(
    (one) => !one.endsWith('.test.ts'),
  ))
    for (const [page] of read(file).matchAll(/docs\/runbooks\/[a-z-]+\.md/g))
      expect([file, page, existsSync(join(repository, page))]).toEqual([file, page, true])
})
