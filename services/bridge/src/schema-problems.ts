import type { TObject, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Settings } from 'typebox/system'

/** What may be shown: a name, and nothing that was meant to be a URL or a password. */
export const isName = (value: unknown): value is string => typeof value === 'string' && /^[\w-]{1,60}$/.test(value)

/** A line for each place of a value that does not fit, with what belongs there; nothing of the value. */
export function schemaProblems(schema: TObject, value: unknown, at = ''): string[] {
  const lines = errorsOf(schema, value).flatMap(({ instancePath, keyword, params, message, schemaPath }) => {
    if (keyword === 'boolean') return [] // of a name that there is not, which is told by itself
    const parts = instancePath.split('/').slice(1)
    const path = [at, ...parts.map((part) => (isName(part) ? part : '…'))].filter((part) => part !== '').join('.')
    const where = path === '' ? '' : `${path} `
    if (keyword === 'additionalProperties') {
      const { additionalProperties = [] } = params as { additionalProperties?: string[] }
      return additionalProperties.map(
        (name) =>
          `${where}has ${isName(name) ? name : 'a name'}, which there is not: there are ${namesOf(schema, instancePath)}`,
      )
    }
    if (keyword === 'required') {
      const { requiredProperties = [] } = params as { requiredProperties?: string[] }
      return requiredProperties.map((name) => `${where}lacks ${name}`)
    }
    return [`${where}${wanted(schema, schemaPath) ?? message}`]
  })
  return [...new Set(lines)]
}

/** All of them: the package ends with the eighth by itself. */
function errorsOf(schema: TObject, value: unknown) {
  const { maxErrors } = Settings.Get()
  Settings.Set({ maxErrors: Number.MAX_SAFE_INTEGER })
  try {
    return [...Compile(schema).Errors(value)]
  } finally {
    Settings.Set({ maxErrors })
  }
}

/** By the path of a place in a value. */
function schemaAt(schema: TSchema, path: readonly string[]): TSchema | undefined {
  let at = schema as { properties?: Record<string, TSchema>; items?: TSchema } | undefined
  for (const part of path) at = (at?.properties?.[part] ?? at?.items) as typeof at
  return at as TSchema | undefined
}

const namesOf = (schema: TObject, instancePath: string) =>
  Object.keys((schemaAt(schema, instancePath.split('/').slice(1)) as TObject | undefined)?.properties ?? {}).join(', ')

/** `#/properties/send/items` leads to a description. */
function wanted(schema: TObject, schemaPath: string): string | undefined {
  const parts = schemaPath.split('/').slice(1)
  let at: unknown = schema
  let description: string | undefined
  for (const part of parts) {
    at = (at as Record<string, unknown> | undefined)?.[part]
    const found = (at as { description?: string } | undefined)?.description
    if (found) description = found
  }
  return description && `must be ${description}`
}
