import { readFileSync } from 'node:fs'
import { ConfigError } from '@shopstream/config'
import type { EventName } from '@shopstream/events'
import { parseDocument, type YAMLParseError } from 'yaml'
import type { BridgeRow } from './row.ts'
import { type Placed, problemsOf } from './table.ts'
import { targets } from './targets/index.ts'
import type { Target } from './targets/target.ts'
import { urlOf } from './url.ts'

/** The bridges of this deployment: rows as in a file of bridges, see docs/bridges.md. BRIDGES_FILE takes their place. */
const bridges: readonly BridgeRow[] = []

/** A bridge with all that it is made of. */
export interface Bridge {
  name: string
  direction: 'send' | 'receive'
  events: readonly EventName[]
  row: BridgeRow
  kind: string
  target: Target
  options: Record<string, unknown> & { url: string }
  /** What the variable holds that `options.url` names. */
  url: string
}

/** Where the table is; without both it is {@link bridges}. */
interface TableSettings {
  BRIDGES?: string
  BRIDGES_FILE?: readonly string[]
}

/** Reads the table. Throws one ConfigError with everything that is wrong, in every row and file. */
export function readBridges(table: TableSettings, env = process.env): Bridge[] {
  const { rows, problems } = readTable(table)
  problems.push(...problemsOf(rows, env))
  if (problems.length > 0) throw new ConfigError(problems)
  return rows.map(({ row }) => bridgeOf(row as BridgeRow, env))
}

/** Rows, and why there are no more of them. */
interface Table {
  rows: Placed[]
  problems: string[]
}

function readTable({ BRIDGES: text, BRIDGES_FILE: files = [] }: TableSettings): Table {
  const read = [
    ...(text ? [rowsOf('BRIDGES', () => text)] : []),
    ...files.map((file) => rowsOf(file, () => readFileSync(file, 'utf8'))),
  ]
  if (read.length === 0) return { rows: placed(bridges, 'src/bridges.ts'), problems: [] }
  const isBoth = text && files.length > 0
  return {
    rows: read.flatMap(({ rows }) => rows),
    problems: [
      ...(isBoth ? ['BRIDGES and BRIDGES_FILE are both set: set one of them'] : []),
      ...read.flatMap(({ problems }) => problems),
    ],
  }
}

const placed = (rows: readonly unknown[], file: string): Placed[] =>
  rows.map((row, n) => ({ row, file, number: n + 1 }))

function rowsOf(file: string, textOf: () => string): Table {
  const noRows = (...problems: string[]): Table => ({ rows: [], problems })
  try {
    // Its warnings quote what they warn of. Some editors begin a file with U+FEFF.
    const document = parseDocument(textOf().replace(/^\ufeff/, ''), { logLevel: 'error' })
    if (document.errors.length > 0) return noRows(...document.errors.map((error) => `${file}: ${inWords(error)}`))
    const read: unknown = document.toJS()
    if (read === null) return noRows(`${file}: has no rows: write one, or [] for no bridge`)
    if (Array.isArray(read)) return { rows: placed(read, file), problems: [] }
    return noRows(`${file}: is no list of bridges: each begins with "- name:"`)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const what = code ? `cannot be read (${code}): BRIDGES_FILE has to name files that are there` : before(message)
    return noRows(`${file}: ${what}`)
  }
}

/** What the parser quotes comes behind a colon or a backslash, and may be a password. */
const before = (message: string) => message.split(/:|\n| at line | sequence \\/, 1).join()

const inWords = ({ message, linePos: [start] = [] as never }: YAMLParseError) =>
  `is no YAML${start ? `, line ${start.line}, column ${start.col}` : ''}: ${before(message)}`

/** Of a row that has no problem. */
function bridgeOf(row: BridgeRow, env: NodeJS.ProcessEnv): Bridge {
  const held = (row.to ?? row.from) as Record<string, Bridge['options']>
  const [kind, options] = Object.entries(held)[0] as [string, Bridge['options']]
  const target = targets[kind] as Target
  const { url } = urlOf(options.url, target, env) as { url: string }
  return {
    name: row.name,
    direction: row.send ? 'send' : 'receive',
    events: (row.send ?? row.receive) as EventName[],
    row,
    kind,
    target,
    options,
    url,
  }
}
