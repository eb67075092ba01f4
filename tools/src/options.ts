import { type ParseArgsConfig, parseArgs } from 'node:util'

/**
 * Reads the options of a command that takes nothing else. `--help` prints `usage` and ends the process with 0; what is
 * not known ends it with 2, before anything has been done.
 */
export function readOptions<const O extends NonNullable<ParseArgsConfig['options']>>(usage: string, options: O) {
  try {
    const { values } = parseArgs({ options: { ...options, help: { type: 'boolean', short: 'h' } } as const })
    if (!(values as { help?: boolean }).help) return values
    process.stdout.write(`${usage}\n`)
    process.exit(0)
  } catch (error) {
    if (!(error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS')) throw error
    process.stderr.write(`${(error as Error).message}\n\n${usage}\n`)
    process.exit(2)
  }
}
