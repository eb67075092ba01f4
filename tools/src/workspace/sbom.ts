import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { repository, runCommand } from '@shopstream/testing'
import { serviceNames } from '../local/services.ts'
import { UsageError } from '../terminal/options.ts'
import { buildService, copyInstalled, mainFile } from './bundle.ts'

export const usage = `Usage: npm run packages -- sbom IMAGE [--out FILE]

Prints what is in an image (${serviceNames.join(', ')} or shop) beyond its base, as CycloneDX: each package that its
bundle was made of or that is installed beside it, as npm describes it. The base image has its own.`

interface Component {
  'bom-ref': string
  name: string
  version: string
}

/** The part of a CycloneDX document that is read and changed here; the rest stays as npm writes it. */
interface Document {
  metadata: { component: Component }
  components: Component[]
  dependencies: { ref: string; dependsOn: string[] }[]
}

const refOf = (folder: string): string => {
  const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return `${name}@${version}`
}

/** The packages of others' making in an image, as npm names them. */
async function packagesIn(image: string): Promise<Set<string>> {
  const [folder, entry] = image === 'shop' ? ['tools', 'src/commands/shop.ts'] : [`services/${image}`, mainFile]
  const out = mkdtempSync(join(tmpdir(), 'sbom-'))
  try {
    const { packages } = await buildService(join(repository, folder), out, entry)
    const { dependencies } = JSON.parse(readFileSync(join(out, 'package.json'), 'utf8'))
    const beside = copyInstalled(out, Object.keys(dependencies), join(repository, folder))
    return new Set([...packages, ...beside].filter((one) => existsSync(join(one, 'package.json'))).map(refOf))
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
}

/** The part of a document that is about some of its components. Throws when one is not in it. */
function limitedTo(document: Document, image: string, refs: ReadonlySet<string>): Document {
  const components = document.components.filter((component) => refs.has(component['bom-ref']))
  const missing = [...refs].filter((ref) => !components.some((component) => component['bom-ref'] === ref))
  if (missing.length > 0) throw new Error(`npm does not know ${missing.join(', ')}: run npm ci`)
  const { version } = document.metadata.component
  const name = `shopstream/${image}`
  const root = { 'bom-ref': `${name}@${version}`, type: 'application', name, version }
  const among = (all: readonly string[]) => all.filter((ref) => refs.has(ref))
  return {
    ...document,
    metadata: { ...document.metadata, component: root },
    components,
    dependencies: [
      { ref: root['bom-ref'], dependsOn: [...refs].sort() },
      ...document.dependencies
        .filter(({ ref }) => refs.has(ref))
        .map(({ ref, dependsOn }) => ({ ref, dependsOn: among(dependsOn) })),
    ],
  }
}

/**
 * npm is asked for everything: `--omit dev` leaves out what anybody has among his development dependencies, such as fastify, and
 * `--workspace` what others have, too.
 */
export async function sbom(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { out: { type: 'string' } } })
  const [image = '', ...rest] = positionals
  if (![...serviceNames, 'shop'].includes(image) || rest.length > 0) throw new UsageError('Of which image?')
  const all = await runCommand('npm', ['sbom', '--sbom-format', 'cyclonedx', '--loglevel', 'silent'], {
    cwd: repository,
  })
  const text = `${JSON.stringify(limitedTo(JSON.parse(all), image, await packagesIn(image)), null, 2)}\n`
  if (values.out === undefined) process.stdout.write(text)
  else writeFileSync(values.out, text)
  return 0
}
