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
    const problem = argumentsProblem(error)
    if (problem === undefined) throw error
    process.stderr.write(`${problem}\n\n${usage}\n`)
    process.exit(2)
  }
}

/** What `parseArgs` has against arguments, in a sentence; undefined for another error. Its own words speak to programmers. */
export function argumentsProblem(error: unknown): string | undefined {
  const { code, message } = error as { code?: unknown; message: string }
  if (typeof code !== 'string' || !code.startsWith('ERR_PARSE_ARGS')) return undefined
  const [, named = ''] = /'(.*?)'(?=[. ]|$)/s.exec(message) ?? []
  const option = named.replace(/ <value>$/, '').replace(/^-\w, /, '')
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return `There is no option ${option}.`
  if (code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') return `It takes no argument ${named}.`
  if (message.includes('does not take an argument')) return `${option} takes no value.`
  return message.includes('ambiguous')
    ? `${option} needs a value; one that begins with - is written as ${option.startsWith('--') ? `${option}=` : option}-VALUE.`
    : `${option} needs a value.`
}

/** Arguments that make no sense; the command ends with 2, its sentence and the usage. */
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
    if (error instanceof Refusal) {
      console.error(error.message)
      return 1
    }
    const problem = error instanceof UsageError ? error.message : argumentsProblem(error)
    if (problem === undefined) throw error
    console.error(`${problem}\n\n${own}`)
    return 2
  }
}
