/** Refuses migrations that the previous version could not live with: run by `npm run check`. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '@shopstream/testing'

/**
 * Statements that take something away from a version that still runs beside the new one, or is rolled back to: it goes on
 * reading and writing what it knows. Two steps do the same safely: stop using it, and take it away a version later.
 */
const breaking: readonly { what: string; pattern: RegExp }[] = [
  { what: 'drops a table, a view or a column', pattern: /\bdrop\s+(table|view|materialized\s+view|column)\b/i },
  { what: 'drops a function that the previous version may call', pattern: /\bdrop\s+(function|procedure|type)\b/i },
  { what: 'renames something', pattern: /\brename\s+(to|column|constraint)\b|\brename\s+"?\w+"?\s+to\b/i },
  { what: 'changes the type of a column', pattern: /\balter\s+(column\s+)?"?\w+"?\s+(set\s+data\s+)?type\b/i },
  {
    what: 'wants a value that the previous version does not write',
    pattern: /\bset\s+not\s+null\b|\bdrop\s+default\b/i,
  },
  {
    what: 'adds a column that must be given, without a default',
    pattern:
      /\badd\s+(column\s+)?(if\s+not\s+exists\s+)?(?!constraint\b|check\b|primary\b|unique\b|foreign\b)"?\w+"?\s+[^,;]*\bnot\s+null\b(?![^,;]*\b(default|generated)\b)(?<!\bdefault\b[^,;]*)/i,
  },
]

/** A comment of a migration that says why it may break the previous version all the same. */
const excuse = /^--\s*breaks the previous version:[^\S\n]*\S/im

/** What a migration does that the previous version could not live with; nothing where it says why it may. */
export function breaksOf(sql: string): string[] {
  if (excuse.test(sql)) return []
  const code = sql.replaceAll(/--[^\n]*|\/\*[\s\S]*?\*\//g, ' ').replaceAll(/\$(\w*)\$[\s\S]*?\$\1\$/g, "''")
  return breaking.filter(({ pattern }) => pattern.test(code)).map(({ what }) => what)
}

export const migrationFiles = (root: string): string[] =>
  globSync('{libs,services}/*/src/migrations/**/*.sql', { cwd: root }).sort()

if (import.meta.main) {
  const files = migrationFiles(repository)
  const problems = files.flatMap((file) =>
    breaksOf(readFileSync(join(repository, file), 'utf8')).map((what) => `${file} ${what}`),
  )
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) {
    console.error(
      '\nInstances of the previous version run beside the new one, and a rollback comes back to it: do it in two versions,\n' +
        'or say in the migration why it may: -- breaks the previous version: REASON',
    )
    process.exitCode = 1
  }
}
