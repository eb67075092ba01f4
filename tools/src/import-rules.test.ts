import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'

/** What lint, with the house's settings, says of a file at this place that imports one thing. */
function lint(file: string, imported: string): string {
  const house = mkdtempSync(join(tmpdir(), 'shopstream-lint-'))
  try {
    const settings = JSON.parse(readFileSync(join(repository, 'biome.json'), 'utf8'))
    writeFileSync(join(house, 'biome.json'), JSON.stringify({ ...settings, vcs: { enabled: false } }))
    mkdirSync(join(house, dirname(file)), { recursive: true })
    writeFileSync(join(house, file), `import thing from '${imported}'\n\nexport default thing\n`)
    const biome = join(repository, 'node_modules', '.bin', 'biome')
    const { stdout, stderr } = spawnSync(biome, ['lint', '.'], { cwd: house, encoding: 'utf8' })
    return stdout + stderr
  } finally {
    rmSync(house, { recursive: true })
  }
}

const bites = 'noRestrictedImports'

describe('the rules of the house bite', () => {
  test.each([
    ['services/order/src/x.ts', 'kafkajs', 'use @shopstream/messaging'],
    ['services/order/src/x.ts', 'kafkajs/src/network/connection.js', 'use @shopstream/messaging'],
    ['libs/http/src/x.ts', 'kafkajs', 'use @shopstream/messaging'],
    ['libs/messaging/src/x.ts', 'avsc', 'use @shopstream/events'],
    ['services/user/src/x.ts', 'avsc', 'use @shopstream/events'],
    ['libs/messaging/src/x.ts', 'pg', 'use @shopstream/database'],
    ['services/order/src/deep/x.test.ts', 'pg', 'use @shopstream/database'],
    ['services/order/src/x.ts', '@shopstream/inventory-service', 'services speak through topics'],
    ['services/order/src/x.ts', '../../inventory/src/stock/queries.ts', 'services speak through topics'],
    ['services/order/src/deep/x.ts', '../../../inventory/src/stock/queries.ts', 'services speak through topics'],
    ['libs/http/src/x.ts', '@shopstream/order-service', 'services speak through topics'],
    ['services/order/src/x.ts', '@shopstream/tools', "workspace's tools"],
    ['services/order/src/x.ts', '@shopstream/testing', 'For tests alone'],
  ])('%s may not import %s', (file, imported, message) => {
    const said = lint(file, imported)
    expect(said).toContain(bites)
    expect(said.replace(/\s+/g, ' ')).toContain(message)
  })

  test.each([
    ['libs/messaging/src/x.ts', 'kafkajs'],
    ['libs/messaging/src/x.ts', 'kafkajs/src/network/connection.js'],
    ['libs/events/src/x.ts', 'avsc'],
    ['libs/database/src/x.ts', 'pg'],
    ['services/order/src/x.ts', '@shopstream/messaging'],
    ['services/order/src/x.test.ts', '@shopstream/testing'],
    ['services/order/src/deep/x.ts', '../../life-cycle.ts'],
  ])('%s may import %s', (file, imported) => {
    const said = lint(file, imported)
    expect(said).toContain('Checked 2 files')
    expect(said).not.toContain(bites)
  })
})
