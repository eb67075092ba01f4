import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parse, stringify } from 'yaml'
import { workspace } from './files.ts'

export const usage = `Usage: npm run schemas -- view [--out FOLDER]

Writes index.html, to be opened from the disk, with AsyncAPI's own viewer beside it, which npm fetches (2.7 MB).

  --out FOLDER   where to (default: .shopstream/asyncapi)
  --help         this text`

/** Fetched when it is wanted: as a dependency it would bring React and two parsers into every installation. */
const viewer = {
  name: '@asyncapi/react-component@3.2.1',
  integrity: 'sha512-k5ZqJd6+oxYaQ2o6F3rGWJ1MTIjXdpsUYB3NKQbVqr4yzrN0Ovj5c7eZx8NGd3wfKPhbOrLREtYl9K2OPfnSsA==',
}

/**
 * Makes the page in folder `out` and returns its path. Throws when npm cannot fetch the viewer, or when what it fetched
 * is not the pinned one.
 */
function buildViewer(out: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'shopstream-viewer-'))
  try {
    run('tar', ['-xzf', fetchViewer(folder)], folder)
    mkdirSync(out, { recursive: true })
    copyFileSync(join(folder, 'package/browser/standalone/index.js'), join(out, 'viewer.js'))
    copyFileSync(join(folder, 'package/styles/default.min.css'), join(out, 'viewer.css'))
  } finally {
    rmSync(folder, { recursive: true })
  }
  const page = join(out, 'index.html')
  writeFileSync(page, pageOf(readFileSync(join(workspace, 'schemas/asyncapi.yaml'), 'utf8')))
  return page
}

/** Returns the name of the archive in `folder`. */
function fetchViewer(folder: string): string {
  const [packed] = JSON.parse(run('npm', ['pack', viewer.name, '--json', '--loglevel=error'], folder))
  if (packed.integrity === viewer.integrity) return packed.filename
  throw new Error(`${viewer.name} is not the one that is pinned: it has ${packed.integrity}, not ${viewer.integrity}`)
}

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status === 0) return stdout
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`)
}

/** The page for a document in YAML, which is in it, since a browser reads no file beside one on the disk. */
export function pageOf(yaml: string): string {
  const document = parse(yaml)
  for (const message of Object.values<{ payload?: { schema: unknown } }>(document.components.messages)) {
    if (message.payload) message.payload.schema = spelledOut(message.payload.schema)
  }
  const text = JSON.stringify(stringify(document)).replaceAll('<', '\\u003c')
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${document.info.title}</title>
<link rel="stylesheet" href="viewer.css">
<div id="asyncapi"></div>
<script src="viewer.js"></script>
<script>
  const config = { show: { sidebar: true, errors: true }, expand: { messageExamples: true } }
  AsyncApiStandalone.render({ schema: ${text}, config }, document.getElementById('asyncapi'))
</script>
</html>
`
}

interface AvroNode {
  name?: string
  namespace?: string
  fields?: { name: string; type: unknown }[]
  items?: unknown
  values?: unknown
}

/**
 * A schema in which every use of a named type repeats its definition: the viewer shows a reference as a field of any
 * type. A repeated definition gets its place as namespace, because Avro allows each name once.
 */
export function spelledOut(schema: unknown, known = new Map<string, AvroNode>(), place = '', isCopy = false): unknown {
  const inside = (part: unknown, at = place) => spelledOut(part, known, at, isCopy)
  if (Array.isArray(schema)) return schema.map((branch) => inside(branch))
  if (typeof schema === 'string') {
    const definition = known.get(schema)
    return definition ? spelledOut(definition, known, place, true) : schema
  }
  const { name, namespace, fields, items, values } = schema as AvroNode
  if (name !== undefined && !isCopy) known.set(`${namespace}.${name}`, schema as AvroNode)
  return {
    ...(schema as AvroNode),
    ...(isCopy && namespace !== undefined && { namespace: `${namespace}${place}` }),
    ...(fields && {
      fields: fields.map((field) => ({ ...field, type: inside(field.type, `${place}.${field.name}`) })),
    }),
    ...(items !== undefined && { items: inside(items) }),
    ...(values !== undefined && { values: inside(values) }),
  }
}

/** The command; returns its exit code. */
export async function viewCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { out: { type: 'string' } } })
  try {
    const page = buildViewer(resolve(values.out ?? join(workspace, '.shopstream/asyncapi')))
    console.log(`${page} written: open it in a browser`)
    return 0
  } catch (error) {
    console.error((error as Error).message)
    return 1
  }
}
