/** `npm run build`: bundles each service, and the operator's program, into its folder's dist/, from which an image is made. */
import { existsSync, readFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { buildService, copyInstalled, mainFile } from '../workspace/bundle.ts'

const usage = `Usage: npm run build                                    every service, what has not changed from nx's cache
       node tools/src/commands/build.ts [FOLDER] [--out FOLDER] [--entry FILE]  one service (default: this folder), into its dist/

  --entry FILE            what it begins with (default: src/main.ts)
  --installed             also node_modules/ with what cannot be bundled, as the lock file has it

  main.js, main.js.map    the service with its dependencies, for Node 24: node --enable-source-maps main.js
  migrations/SOURCE/      SQL of the service and of the libraries in it
  package.json            what cannot be bundled, with exact versions`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string' },
    entry: { type: 'string', default: mainFile },
    installed: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) console.log(usage)
else {
  const folder = resolve(positionals[0] ?? '.')
  if (!existsSync(join(folder, values.entry))) {
    console.error(`${folder} is no service: it has no ${values.entry}\n\n${usage}`)
    process.exit(1)
  }
  const out = resolve(values.out ?? join(folder, 'dist'))
  const { bytes } = await buildService(folder, out, values.entry)
  if (values.installed) {
    const { dependencies } = JSON.parse(readFileSync(join(out, 'package.json'), 'utf8'))
    copyInstalled(out, Object.keys(dependencies), folder)
  }
  console.log(`${basename(folder)}: ${relative('.', out) || '.'}/main.js, ${(bytes / 1e6).toFixed(1)} MB`)
}
