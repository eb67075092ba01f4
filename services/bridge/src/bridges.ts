import { readFileSync } from 'node:fs'
import { ConfigError, readConfig, settings, Type } from '@shopstream/config'
import type { EventName } from '@shopstream/events'
import { parse } from 'yaml'
import type { BridgeRow } from './row.ts'
import { problemsOf } from './table.ts'
import { targets } from './targets/index.ts'
import type { Target } from './targets/target.ts'

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

/** Reads the table. Throws one ConfigError with everything that is wrong. */
export function readBridges({ BRIDGES: text, BRIDGES_FILE: files }: TableSettings, env = process.env): Bridge[] {
  const { rows, problems } = readTable(text, files)
  problems.push(...problemsOf(rows))
  if (problems.length > 0) throw new ConfigError(problems)
  const found = rows.map((row) => bridgeOf(row, env))
  const unreached = found.flatMap((one) => ('problems' in one ? one.problems : []))
  if (unreached.length > 0) throw new ConfigError([...new Set(unreached)])
  return found.filter((one) => 'name' in one)
}

/** Rows, and why there are no more of them. */
interface Table {
  rows: readonly BridgeRow[]
  problems: string[]
}

function readTable(text: string | undefined, files: readonly string[] | undefined): Table {
  if (text && files) return { rows: [], problems: ['BRIDGES and BRIDGES_FILE are both set: set one of them'] }
  const read = text
    ? [rowsOf('BRIDGES', () => text)]
    : files?.map((file) => rowsOf(`BRIDGES_FILE names ${file}, which`, () => readFileSync(file, 'utf8')))
  if (!read) return { rows: bridges, problems: [] }
  return { rows: read.flatMap(({ rows }) => rows), problems: read.flatMap(({ problem }) => problem ?? []) }
}

function rowsOf(where: string, textOf: () => string): { rows: BridgeRow[]; problem?: string } {
  try {
    const read: unknown = parse(textOf()) ?? []
    if (Array.isArray(read)) return { rows: read }
    return { rows: [], problem: `${where} is no list of bridges: each begins with "- name:"` }
  } catch (error) {
    return { rows: [], problem: `${where} cannot be read: ${(error as Error).message.split('\n')[0]}` }
  }
}

/** Of a row that has no problem, but that its URL may be missing. */
function bridgeOf(row: BridgeRow, env: NodeJS.ProcessEnv): Bridge | { problems: readonly string[] } {
  const [kind, options] = Object.entries((row.to ?? row.from) as Record<string, Bridge['options']>)[0] as [
    string,
    Bridge['options'],
  ]
  const target = targets[kind] as Target
  const direction = row.send ? 'send' : 'receive'
  const url = urlOf(options.url, target, env)
  if (typeof url !== 'string') return url
  return {
    name: row.name,
    direction,
    events: (row.send ?? row.receive) as EventName[],
    row,
    kind,
    target,
    options,
    url,
  }
}

function urlOf(
  variable: string,
  { protocols }: Target,
  env: NodeJS.ProcessEnv,
): string | { problems: readonly string[] } {
  const schema = Type.Object({
    [variable]: settings.url('where a bridge leads', {
      protocols: [...protocols],
      example: `${protocols[0]}://user:password@127.0.0.1`,
    }),
  })
  try {
    return readConfig(schema, env)[variable] as string
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems }
    throw error
  }
}
