/** Refuses migrations that the previous version could not live with: run by `npm run check`. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '@shopstream/testing'

/**
 * Statements that take something away from a version that still runs beside the new one, or is rolled back to: it goes on
 * reading and writing what it knows. Two steps do the same safely: stop using it, and take it away a version later.
 */
const breaking: readonly { what: string; pattern: RegExp }[] = [
  { what: 'drops something that the previous version may use', pattern: /^drop (?!index\b)/ },
  { what: 'empties a table, or takes rights away', pattern: /^(truncate|revoke)\b/ },
  { what: 'wants values to be unique that the previous version may write twice', pattern: /^create unique index\b/ },
  { what: 'renames something', pattern: /^alter .*\brename\b/ },
  { what: 'moves something to another schema', pattern: /^alter .*\bset schema\b/ },
]

/** The same of an action of `alter table`. */
const breakingActions: readonly { what: string; pattern: RegExp }[] = [
  { what: 'drops a column', pattern: /^drop (?!constraint\b)/ },
  { what: 'changes the type of a column', pattern: /^alter (column )?\S+ (set data )?type\b/ },
  {
    what: 'wants a value that the previous version does not write',
    pattern: /^alter (column )?\S+ (set not null|drop (default|identity))\b/,
  },
  {
    what: 'adds a column that must be given, without a default',
    pattern: /^add (?!constraint\b)(?!.*\b(default|generated)\b).*\bnot null\b/,
  },
  {
    what: 'adds a constraint that holds for what the previous version writes',
    pattern:
      /^add (column .*\b(unique|primary key)\b|constraint\b|check\b|unique\b|primary key\b|foreign key\b|exclude\b)/,
  },
]

/** A comment of a migration that says why it may break the previous version all the same. */
const excuse = /^--\s*breaks the previous version:[^\S\n]*\S/im

/** Released before there was this check, so their text stays as it is; each was judged by hand: what its constraints refuse, no version writes. */
const judged = new Set([
  'libs/messaging/src/migrations/messaging/0003-parked-history.sql', // takes the states of before; the rest is of new columns
  'services/notification/src/migrations/0002-lanes-mailings-resends.sql', // takes the kinds of before, and more
])

/** What a migration does that the previous version could not live with; nothing where it says why it may. */
export function breaksOf(sql: string): string[] {
  if (excuse.test(sql)) return []
  const code = sql.replaceAll(/--[^\n]*|\/\*[\s\S]*?\*\//g, ' ')
  // The body of a function runs later, that of `do` at once.
  const now = code.replaceAll(/\bdo\s+\$(\w*)\$([\s\S]*?)\$\1\$/gi, (_, __, body) =>
    body.replaceAll(/\bbegin\b|\bend\b|\bthen\b/gi, ';'),
  )
  const statements = now
    .replaceAll(/\$(\w*)\$[\s\S]*?\$\1\$|'(?:[^']|'')*'/g, "''")
    .split(';')
    .map(inOneLine)
  return statements.flatMap((statement) => {
    const found = breaking.filter(({ pattern }) => pattern.test(statement))
    const actions = /^alter table (?:if exists )?(?:only )?(?:"[^"]*"|\S+) (.*)$/.exec(statement)?.[1]
    const ofActions = actions
      ? splitAtCommas(actions).flatMap((action) => breakingActions.filter(({ pattern }) => pattern.test(action)))
      : []
    return [...found, ...ofActions].map(({ what }) => what)
  })
}

const inOneLine = (text: string) => text.replaceAll(/\s+/g, ' ').trim().toLowerCase()

/** At those that are in no parentheses. */
function splitAtCommas(text: string): string[] {
  let depth = 0
  const parts = ['']
  for (const letter of text) {
    if (letter === '(') depth += 1
    if (letter === ')') depth -= 1
    if (letter === ',' && depth === 0) parts.push('')
    else parts[parts.length - 1] += letter
  }
  return parts.map((part) => part.trim())
}

/** Those that are to be looked at. */
export const migrationFiles = (root: string): string[] =>
  globSync('{libs,services}/*/src/migrations/**/*.sql', { cwd: root })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => !judged.has(file))
    .sort()

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
