import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { shortName } from '@shopstream/events/schema'
import { goldenFile } from '@shopstream/testing/golden'
import { type CheckOptions, checkSchemas, fixLayout } from '../schemas/check.ts'
import { eventsOf, readIfThere, readSchemaFiles, workspace, write } from '../schemas/files.ts'
import { isPending, Refused } from '../schemas/findings.ts'
import { writeGolden } from '../schemas/golden.ts'
import { lockFile, newRows, printLock, readLock } from '../schemas/lock.ts'
import {
  extendTopicsLock,
  printTopicsLock,
  readTopics,
  readTopicsLock,
  topicsLockFile,
} from '../schemas/topics-lock.ts'
import { generate } from './generate.ts'

/** What {@link register} did. */
export interface Registration {
  /** The versions that are new in the lock. */
  versions: { id: number; subject: string; version: number }[]
  /** Every file that was written, from the top of the workspace. */
  written: string[]
}

/**
 * Adds the newest versions to the locks, writes their golden bytes and all that is derived. Doing it again does nothing.
 * Throws `Refused`, having written nothing, when `check` finds anything that this does not mend.
 */
export async function register(options: CheckOptions): Promise<Registration> {
  const { root } = options
  const refused = (await checkSchemas(options)).filter((finding) => !isPending(finding))
  if (refused.length > 0) throw new Refused(refused)

  const topics = options.topics ?? (await readTopics(root))
  const { lock } = readLock(root)
  const versions = newRows(lock, eventsOf(readSchemaFiles(root)))
  const all = [...lock, ...versions]
  const written = fixLayout(root)
  written.push(
    ...writeGolden(
      root,
      all.filter((row) => readIfThere(join(root, goldenFile(row))) === undefined),
    ),
  )
  const locks = {
    [lockFile]: printLock(all),
    [topicsLockFile]: printTopicsLock(extendTopicsLock(readTopicsLock(root), topics)),
  }
  for (const [file, text] of Object.entries(locks)) {
    if (readIfThere(join(root, file)) === text) continue
    write(join(root, file), text)
    written.push(file)
  }
  written.push(...(await generate({ ...options, topics })))
  return { versions: versions.map(({ id, subject, version }) => ({ id, subject, version })), written }
}

export const usage = `Usage: npm run schemas -- register [--base REF] [--json]

Adds each changed schema to ${lockFile} as its next version, with the next id (from 100001 up, never used
twice), adds new topics to ${topicsLockFile}, writes the golden bytes of new versions, and generates all that
follows. Refuses what \`check\` refuses, and writes nothing then. Doing it again does nothing.

  --base REF  as for \`check\`
  --json      prints {versions: [{id, subject, version}], written: [path]}

Exit code 0, or 1 with every reason why it refuses.`

/** The command; returns its exit code. */
export async function registerCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { base: { type: 'string' }, json: { type: 'boolean' } } })
  const { versions, written } = await register({
    root: workspace,
    ...(values.base !== undefined && { base: values.base }),
    note: (text) => console.error(`Note: ${text}.`),
  })
  if (values.json) console.log(JSON.stringify({ versions, written }, null, 2))
  else if (written.length === 0) console.log('Nothing is new: each event is registered as it is.')
  else {
    const lines = versions.map(
      ({ id, subject, version }) => `${shortName(subject)} version ${version} has the id ${id}`,
    )
    console.log([...lines, ...written.map((file) => `${file} written`)].join('\n'))
  }
  return 0
}
