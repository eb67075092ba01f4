import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { repository } from '@shopstream/testing'
import { Refusal } from '../terminal/options.ts'

export const usage = `Usage: npm run packages -- licences [--packages]

Lists the licences of all packages that package-lock.json names and that are installed, those for development too; with
--packages the packages below each. What jars, Go modules and base images are made of is not among them. Exit code 1 when one does not fit MIT, under which shopstream is given away, or is not known.`

/** What may be given away with MIT code: each asks for its notice to be kept, or for nothing. */
const fitting = new Set([
  'MIT',
  'MIT-0',
  'ISC',
  '0BSD',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'Unlicense',
  'CC0-1.0',
  'Python-2.0',
  'CC-BY-4.0', // of data: what which browser knows
])

/** What a package's manifest leaves out and the file LICENSE in it says. */
const saidElsewhere: Record<string, string> = { '@kafkajs/confluent-schema-registry': 'MIT' }

/** Whether an expression of SPDX names licences that fit, or lets one choose such. */
export function fits(expression: string): boolean {
  const bare = expression.replace(/^\((.*)\)$/s, '$1')
  if (bare.includes(' OR ')) return bare.split(' OR ').some((one) => fits(one))
  return bare.split(' AND ').every((one) => fitting.has(one.trim()))
}

interface Manifest {
  name: string
  version: string
  license?: string | { type: string }
  /** The form of long ago. */
  licenses?: { type: string }[]
}

export function licenceOf({ name, license, licenses = [] }: Manifest): string {
  if (license !== undefined) return typeof license === 'string' ? license : license.type
  return licenses.map(({ type }) => type).join(' OR ') || (saidElsewhere[name] ?? 'not known')
}

/** What is installed of the lock's packages, as their authors say; binaries of other machines are not here. */
function installed(root: string): Manifest[] {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { link?: boolean }>
  }
  return Object.entries(packages)
    .filter(([place, { link }]) => place.includes('node_modules/') && !link)
    .map(([place]) => join(root, place, 'package.json'))
    .filter((file) => existsSync(file))
    .map((file) => JSON.parse(readFileSync(file, 'utf8')))
}

export async function licences(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { packages: { type: 'boolean' } } })
  const byLicence = Map.groupBy(installed(repository), licenceOf)
  const named = (packages: readonly Manifest[]) =>
    [...new Set(packages.map(({ name, version }) => `${name} ${version}`))].sort()
  for (const [licence, packages] of [...byLicence].sort(([, a], [, b]) => b.length - a.length)) {
    console.log(`${licence}: ${named(packages).length}`)
    if (values.packages) for (const one of named(packages)) console.log(`  ${one}`)
  }
  const unfit = [...byLicence].filter(([licence]) => !fits(licence))
  if (unfit.length === 0) {
    console.log('All fit MIT.')
    return 0
  }
  throw new Refusal(
    `No licence that fits MIT:\n${unfit.map(([licence, packages]) => `  ${licence}: ${named(packages).join(', ')}`).join('\n')}`,
  )
}
