import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'

/** A JSON schema, as far as it is looked at. */
interface Schema {
  [keyword: string]: unknown
  properties?: Record<string, Schema>
  items?: Schema
  additionalProperties?: Schema | boolean
}

interface CustomResourceDefinition {
  kind?: string
  spec: {
    group: string
    names: { kind: string }
    versions: { name: string; schema: { openAPIV3Schema: Schema } }[]
  }
}

/** For `-schema-location` of kubeconform, below the folder that {@link writeSchemas} was given. */
export const schemaLocations = (folder: string) => [
  join(folder, '{{.NormalizedKubernetesVersion}}', '{{.ResourceKind}}{{.KindSuffix}}.json'),
  join(folder, 'custom', '{{.Group}}', '{{.ResourceKind}}_{{.ResourceAPIVersion}}.json'),
]

/** The versions of Kubernetes, oldest first, whose schemas are in `schemas`: the folders `v1.34.0-local-strict` of kubernetes-validate. */
export const versionsIn = (schemas: string): string[] =>
  readdirSync(schemas)
    .map((name) => /^v(\d+\.\d+\.\d+)-local-strict$/.exec(name)?.[1] ?? '')
    .filter((version) => version !== '')
    .sort((a, b) => Number(a.split('.')[1]) - Number(b.split('.')[1]))

/**
 * Writes what kubeconform reads: the schemas of these versions of Kubernetes, whose references it would look for on the
 * network, and those of the custom resources that the CRDs below `definitions` define.
 */
export function writeSchemas(folder: string, schemas: string, versions: readonly string[], definitions?: string): void {
  for (const version of versions) {
    const from = join(schemas, `v${version}-local-strict`)
    mkdirSync(join(folder, `v${version}`), { recursive: true })
    for (const file of readdirSync(from)) {
      const { $id: _, ...schema } = JSON.parse(
        readFileSync(join(from, file), 'utf8').replaceAll('"/api/_definitions.json#', '"_definitions.json#'),
      )
      writeFileSync(join(folder, `v${version}`, file), JSON.stringify(schema))
    }
  }
  for (const file of definitions ? globSync('**/*.{yaml,yml}', { cwd: definitions }) : [])
    for (const document of parseAllDocuments(readFileSync(join(definitions ?? '', file), 'utf8'))) {
      const definition = document.toJS() as CustomResourceDefinition | null
      if (definition?.kind === 'CustomResourceDefinition') writeDefinition(join(folder, 'custom'), definition)
    }
}

function writeDefinition(folder: string, { spec: { group, names, versions } }: CustomResourceDefinition): void {
  mkdirSync(join(folder, group), { recursive: true })
  for (const { name, schema } of versions) {
    const file = join(folder, group, `${names.kind.toLowerCase()}_${name}.json`)
    writeFileSync(file, JSON.stringify(strict(schema.openAPIV3Schema)))
  }
}

/** As an API server judges when it is asked to be strict: what a schema does not name is refused. */
export function strict(schema: Schema): Schema {
  const { properties, items, additionalProperties, ...rest } = schema
  const each = (schemas: Record<string, Schema>) =>
    Object.fromEntries(Object.entries(schemas).map(([name, one]) => [name, strict(one)]))
  const isOpen = additionalProperties !== undefined || rest['x-kubernetes-preserve-unknown-fields'] === true
  if (rest['x-kubernetes-int-or-string'] === true) return { type: ['integer', 'string'] }
  return {
    ...rest,
    ...(rest.nullable === true && typeof rest.type === 'string' && { type: [rest.type, 'null'] }),
    ...(properties && { properties: each(properties), ...(!isOpen && { additionalProperties: false }) }),
    ...(items && { items: strict(items) }),
    ...(additionalProperties !== undefined && {
      additionalProperties:
        typeof additionalProperties === 'object' ? strict(additionalProperties) : additionalProperties,
    }),
  }
}

/** Whether there is a folder of that name in the environment; undefined otherwise. */
export const folderOf = (variable: string, env: NodeJS.ProcessEnv = process.env): string | undefined =>
  env[variable] && existsSync(env[variable]) ? env[variable] : undefined
