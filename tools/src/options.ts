import { type ParseArgsConfig, parseArgs } from 'node:util'

/**
 * Reads the options of a command that takes nothing else. `--help` prints `usage` and ends the process with 0; what is
 * not known ends it with 2, before anything has been done.
 */
export function readOptions<const O extends NonNullable<ParseArgsConfig['options']>>(usage: string, options: O) {
  return readAll(usage, options, false).values
}

/** {@link readOptions} for a command that takes other arguments as well. */
export function readArguments<const O extends NonNullable<ParseArgsConfig['options']>>(usage: string, options: O) {
  return readAll(usage, options, true)
}

function readAll<const O extends NonNullable<ParseArgsConfig['options']>>(
  usage: string,
  options: O,
  allowPositionals: boolean,
) {
  try {
    const read = parseArgs({
      allowPositionals,
      options: { ...options, help: { type: 'boolean', short: 'h' } } as const,
    })
    if (!(read.values as { help?: boolean }).help) return { ...read, positionals: read.positionals as string[] }
    process.stdout.write(`${usage}\n`)
    process.exit(0)
  } catch (error) {
    if (!(error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS')) throw error
    process.stderr.write(`${(error as Error).message}\n\n${usage}\n`)
    process.exit(2)
  }
}

/** Arguments that make no sense; the command ends with 2. */
export class UsageError extends Error {}

/** What was asked for is refused, and nothing was changed; the command ends with 1. */
export class Refusal extends Error {}

export interface Command {
  name: string
  about: string
  /** Loaded when it is called, so that one works while what another needs is broken. Returns its exit code. */
  load: () => Promise<{ usage: string; run: (args: string[]) => Promise<number> }>
}

/** The commands, a line each, for a usage text. */
export function listed(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length)) + 2
  return commands.map(({ name, about }) => `  ${name.padEnd(width)}${about}`).join('\n')
}

/** Runs the command that the arguments name; returns its exit code: 2 for arguments that make no sense, 1 for a {@link Refusal}. */
export async function runCommands(
  { usage, commands }: { usage: string; commands: readonly Command[] },
  [name, ...args]: string[],
): Promise<number> {
  if (name === '--help' || name === '-h') {
    console.log(usage)
    return 0
  }
  const command = commands.find((one) => one.name === name)
  if (!command) {
    console.error(`${name === undefined ? 'Which command?' : `There is no command ${name}.`}\n\n${usage}`)
    return 2
  }
  const { usage: own, run } = await command.load()
  if (args.includes('--help') || args.includes('-h')) {
    console.log(own)
    return 0
  }
  try {
    return await run(args)
  } catch (error) {
    const isUsage =
      error instanceof UsageError || String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS')
    if (!isUsage && !(error instanceof Refusal)) throw error
    console.error((error as Error).message)
    return isUsage ? 2 : 1
  }
}
