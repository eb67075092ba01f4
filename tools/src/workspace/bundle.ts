import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { build, type Plugin } from 'esbuild'

/** Packages that stay outside the bundle, and why. They are imported by our own code alone. */
const external: Record<string, string> = {
  '@node-rs/argon2': 'native code',
  '@fastify/swagger-ui': 'serves files of its own folder',
  'pino-pretty': 'loaded by createRequire when LOG_FORMAT is pretty, which esbuild does not follow',
}

/** CommonJS in an ES module: its require of Node's own modules, and its folder. */
const banner = `import { createRequire as createRequireOfBundle } from 'node:module'
const require = createRequireOfBundle(import.meta.url)
const __filename = import.meta.filename
const __dirname = import.meta.dirname
`

/** A package that reads a file beside it has the same within its code. */
const withoutFiles: Plugin = {
  name: 'without-files',
  setup({ onResolve, resolve: resolveImport }) {
    onResolve({ filter: /^@platformatic\/wasm-utils$/ }, ({ path, kind, resolveDir }) =>
      resolveImport(`${path}/bundled`, { kind, resolveDir }),
    )
  },
}

export const mainFile = 'src/main.ts'

export interface Bundle {
  bytes: number
  /** Folders of the packages of others' making that are in it. */
  packages: string[]
}

/** Up to the last one: a package may have others within. */
const packageFolder = /.*node_modules\/(?:@[^/]+\/)?[^/]+/

interface Source {
  file: string
  text: string
}

/**
 * Bundles the service in `folder` (its `src/main.ts`, or `entry`, and everything that imports) into `out`, which is emptied first.
 * Throws when something does not resolve, or when migrations or a package that stays
 * outside are not found.
 */
export async function buildService(folder: string, out: string, entry = mainFile): Promise<Bundle> {
  rmSync(out, { recursive: true, force: true })
  const { metafile } = await build({
    absWorkingDir: folder,
    entryPoints: [entry],
    outfile: join(out, 'main.js'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    sourcemap: true,
    sourcesContent: false,
    external: Object.keys(external),
    plugins: [withoutFiles],
    define: {
      'process.env.SHOPSTREAM_CRASH_AT': 'undefined', // see libs/messaging/src/crash-points.ts
      isBundled: 'true', // see operations/services.ts
    },
    banner: { js: banner },
    metafile: true,
    logLevel: 'warning',
  })
  const bundle = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined)
  if (!bundle) throw new Error(`esbuild made no bundle of ${folder}`)
  const own: Source[] = Object.keys(bundle.inputs)
    .filter((path) => !path.includes('node_modules/') && !path.startsWith('<')) // such as what `define` puts in
    .map((path) => join(folder, path))
    .map((file) => ({ file, text: readFileSync(file, 'utf8') }))
  copyMigrations(own, join(out, 'migrations'))
  const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const dependencies = installedVersions(own)
  const manifest = { name, version, private: true, type: 'module', engines: { node: '>=24' }, dependencies }
  writeFileSync(join(out, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  const foreign = Object.keys(bundle.inputs).filter((path) => path.includes('node_modules/'))
  const packages = new Set(foreign.map((path) => join(folder, packageFolder.exec(path)?.[0] ?? path)))
  return { bytes: bundle.bytes, packages: [...packages] }
}

/** Puts what each `readMigrations(source, import.meta.url)` reads where it looks first when it runs in a bundle. */
function copyMigrations(sources: readonly Source[], out: string): void {
  for (const { file, text } of sources) {
    for (const [, source = ''] of text.matchAll(/\breadMigrations\('([^']+)', import\.meta\.url\)/g)) {
      const folder = join(dirname(file), 'migrations')
      const own = join(folder, source)
      mkdirSync(join(out, source), { recursive: true })
      cpSync(existsSync(own) ? own : folder, join(out, source), { recursive: true })
    }
  }
}

function installedVersions(sources: readonly Source[]): Record<string, string> {
  return Object.fromEntries(
    Object.keys(external).flatMap((name) => {
      const importer = sources.find(({ text }) => new RegExp(`(\\(|from )'${name}'`).test(text))
      return importer ? [[name, installedVersion(name, dirname(importer.file))]] : []
    }),
  )
}

/** Not by require.resolve, since not every package exports its package.json. */
function installedVersion(name: string, from: string): string {
  const folder = installedFolder(name, from)
  if (folder === undefined) throw new Error(`${name} is not installed: run npm ci`)
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version
}

/**
 * Puts what cannot be bundled, and all that it depends on, into `out`/node_modules, each where it is installed here: an image
 * needs no registry then, and holds what the lock file says. Optional packages that are not here, such as binaries of other
 * platforms, are left out. Returns the folders that they come from. Throws for any other that is missing.
 */
export function copyInstalled(out: string, names: readonly string[], from: string): string[] {
  /** Where each package goes, by where it is. */
  const places = new Map<string, string>()
  const copy = (name: string, from: string, isOptional: boolean) => {
    const folder = installedFolder(name, from)
    if (folder === undefined && isOptional) return
    if (folder === undefined) throw new Error(`${name}, which ${from} needs, is not installed: run npm ci`)
    if (places.has(folder)) return
    const within = folder.slice(0, -join('node_modules', name).length - 1)
    const place = join(places.get(within) ?? '', 'node_modules', name)
    places.set(folder, place)
    const isItsOwn = (path: string) => relative(folder, path).split(sep)[0] !== 'node_modules'
    cpSync(folder, join(out, place), { recursive: true, filter: isItsOwn })
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    )
    for (const needed of Object.keys(dependencies)) copy(needed, folder, needed in optionalDependencies)
    for (const wanted of Object.keys(optionalDependencies)) copy(wanted, folder, true)
  }
  for (const name of names) copy(name, from, false)
  return [...places.keys()]
}

/** As Node looks packages up. */
function installedFolder(name: string, from: string): string | undefined {
  const folder = join(from, 'node_modules', name)
  if (existsSync(join(folder, 'package.json'))) return folder
  return dirname(from) === from ? undefined : installedFolder(name, dirname(from))
}
