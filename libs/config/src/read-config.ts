import { readFileSync } from 'node:fs'
import type { Static, TObject } from 'typebox'

/** The environment does not fit its schema; `message` lists every problem and what to set. */
export class ConfigError extends Error {
  readonly problems: string[]

  constructor(problems: string[]) {
    const count = problems.length === 1 ? 'One setting is' : `${problems.length} settings are`
    super(`${count} wrong in the environment:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** The part of JSON Schema that settings are made of, see `settings`. */
interface Setting {
  type?: 'string' | 'integer' | 'boolean' | 'array'
  enum?: string[]
  format?: string
  protocols?: string[]
  pattern?: string
  minLength?: number
  minimum?: number
  maximum?: number
  items?: Setting
  secret?: boolean
  needs?: string[]
  description?: string
  example?: string
  default?: unknown
}

/**
 * Reads a process's settings from its environment once, converted to the types of `schema` and with its defaults.
 * An empty variable counts as not set; variables that the schema does not name are left alone. A secret or a URL may stand
 * in a file that `NAME_FILE` names instead, as container platforms give secrets; line breaks at its end do not count.
 * What `needs` others has to be set with them.
 * Throws one {@link ConfigError} with everything that is wrong; the values of secrets and URLs are never in it.
 */
export function readConfig<S extends TObject>(schema: S, env: NodeJS.ProcessEnv = process.env): Readonly<Static<S>> {
  const required = new Set<string>(schema.required)
  const problems: string[] = []
  const config: Record<string, unknown> = {}
  const wrong = new Set<string>()
  for (const [name, property] of Object.entries(schema.properties)) {
    const setting = property as Setting
    const { text, problem } = given(name, setting, env)
    if (problem) {
      problems.push(problem)
      wrong.add(name)
      continue
    }
    if (text === undefined || text === '') {
      const value = defaultOf(setting, env)
      if (value !== undefined) config[name] = value
      else if (required.has(name)) problems.push(`${name} is missing: set it to ${expectation(name, setting)}`)
      continue
    }
    const value = convert(text, setting)
    if (value === undefined) {
      problems.push(`${name}${shown(text, setting)} must be ${expectation(name, setting)}`)
      wrong.add(name)
    } else config[name] = value
  }
  problems.push(...missingTogether(schema.properties as Record<string, Setting>, config, wrong))
  if (problems.length > 0) throw new ConfigError(problems)
  return Object.freeze(config) as Readonly<Static<S>>
}

/** A line for each setting that is not set although others that are set need it; one that is `wrong` has its line. */
function missingTogether(
  properties: Record<string, Setting>,
  config: Record<string, unknown>,
  wrong: ReadonlySet<string>,
): string[] {
  const isSet = (name: string) => (config[name] ?? false) !== false || wrong.has(name)
  const pairs = Object.entries(properties).flatMap(([name, { needs = [] }]) =>
    isSet(name) ? needs.filter((need) => properties[need] && !isSet(need)).map((need) => ({ name, need })) : [],
  )
  return [...Map.groupBy(pairs, ({ need }) => need)].map(([need, those]) => {
    const names = those.map(({ name }) => name).join(' and ')
    const what = expectation(need, properties[need] as Setting)
    return `${need} is not set, and ${names} ${those.length > 1 ? 'have' : 'has'} no effect without it: set it (${what}), or leave ${names} out`
  })
}

/** A default may depend on other variables. */
const defaultOf = ({ default: value }: Setting, env: NodeJS.ProcessEnv): unknown =>
  typeof value === 'function' ? value(env) : value

/** Whether a setting's text may hold a secret: passwords stand in URLs as well. */
const mayHoldSecret = ({ secret, format }: Setting) => secret === true || format === 'url'

/** What the environment says of a setting, by itself or by the file that it names. */
function given(
  name: string,
  setting: Setting,
  env: NodeJS.ProcessEnv,
): { text?: string | undefined; problem?: string } {
  const file = env[`${name}_FILE`]
  if (!mayHoldSecret(setting) || !file) return { text: env[name] }
  if (env[name]) return { problem: `${name} and ${name}_FILE are both set: set one of them` }
  try {
    const text = readFileSync(file, 'utf8').replace(/[\r\n]+$/, '')
    // Not as if it was unset: an optional secret would be left out without a word.
    return text === '' ? { problem: `${name}_FILE names ${file}, which is empty: it has to hold ${name}` } : { text }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return {
      problem: `${name}_FILE names ${file}, which cannot be read (${code}): name a file that holds ${name} and nothing else`,
    }
  }
}

/** The value that `text` stands for, or undefined when it stands for none. */
function convert(text: string, setting: Setting): unknown {
  if (setting.enum) return setting.enum.includes(text) ? text : undefined
  switch (setting.type) {
    case 'integer':
      return convertInteger(text.trim(), setting)
    case 'boolean':
      return { true: true, '1': true, false: false, '0': false }[text.trim().toLowerCase()]
    case 'array': {
      const entries = text.split(',').map((entry) => entry.trim())
      return entries.every((entry) => fits(entry, setting.items ?? {})) ? entries : undefined
    }
    case 'string':
      return fits(text, setting) ? text : undefined
    default:
      throw new TypeError(`settings cannot be of the type ${setting.type}`)
  }
}

function convertInteger(text: string, { minimum = -Infinity, maximum = Infinity }: Setting): number | undefined {
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  return value >= minimum && value <= maximum ? value : undefined
}

function fits(text: string, { minLength = 0, pattern, format, protocols = [] }: Setting): boolean {
  if (text.length < minLength || (pattern && !new RegExp(pattern).test(text))) return false
  if (format !== 'url') return true
  const url = URL.parse(text)
  return url !== null && url.host !== '' && protocols.includes(url.protocol.slice(0, -1))
}

/** Numbers and words are shown, as they help; text may hold a password, as URLs do, and is not. */
const shown = (text: string, { type, enum: words }: Setting) =>
  type === 'integer' || type === 'boolean' || words ? ` is ${JSON.stringify(text.slice(0, 40))}, but` : ''

/** A line for each setting of a schema, for `--help`: its name, what it is, and its default or that it must be set. */
export function describeSettings(schema: TObject, env: NodeJS.ProcessEnv = process.env): string[] {
  const required = new Set<string>(schema.required)
  return Object.entries(schema.properties).map(([name, property]) => {
    const setting = property as Setting
    const byDefault = defaultOf(setting, env)
    const absent = byDefault !== undefined ? `default: ${byDefault}` : required.has(name) ? 'must be set' : 'optional'
    return `${name}: ${kind(setting)}${setting.description ? `, ${setting.description}` : ''} (${absent})`
  })
}

function expectation(name: string, setting: Setting): string {
  const { description, example } = setting
  return `${kind(setting)}${description ? ` (${description})` : ''}${example ? `, for example ${name}=${example}` : ''}`
}

function kind(setting: Setting): string {
  const { minLength = 0, minimum, maximum } = setting
  if (setting.enum) return `one of ${setting.enum.join(', ')}`
  if (setting.type === 'integer') return `a whole number from ${minimum} to ${maximum}`
  if (setting.type === 'boolean') return 'true or false'
  if (setting.type === 'array') return 'a list separated by commas'
  if (setting.format === 'url') return `a URL that starts with ${setting.protocols?.map((p) => `${p}://`).join(' or ')}`
  return minLength > 1 ? `a text of at least ${minLength} characters` : 'a text'
}
