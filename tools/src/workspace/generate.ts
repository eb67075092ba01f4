import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Topic } from '@shopstream/events'
import {
  eventsOf,
  fileFindings,
  jsonSchemaFiles,
  pathOf,
  readIfThere,
  readSchemaFiles,
  workspace,
  write,
} from '../schemas/files.ts'
import { type Finding, isPending, Refused } from '../schemas/findings.ts'
import { newRows, readLock } from '../schemas/lock.ts'
import { readTopics } from '../schemas/topics-lock.ts'
import { printTypes } from '../schemas/types.ts'
import type { Model, ServiceWiring } from '../schemas/wiring.ts'
import { printArchitecture, printCommands, printMetrics } from './references.ts'

export const typesFile = 'libs/events/src/generated/events.ts'

export interface GenerateOptions {
  /** Top of the workspace. */
  root: string
  /** Writes nothing. */
  check?: boolean
  /** By default those of the workspace's services and its `topics.ts`. */
  wiring?: ServiceWiring[]
  topics?: readonly Topic[]
}

/** The files that follow from the schemas, the lock, the topics and the services' tables, with their texts. */
async function outputsOf(model: Model): Promise<Record<string, string>> {
  // imported when needed: they load the lock, and whoever mends that needs the rest of this module
  const { printAcls } = await import('../schemas/acl.ts')
  const { printAsyncApi } = await import('../schemas/asyncapi.ts')
  const { printCatalogue } = await import('../schemas/catalogue.ts')
  const { printJsonSchemas } = await import('../schemas/json-schemas.ts')
  const { printSaga } = await import('../proof/saga/picture.ts')
  const { printCompose } = await import('./compose.ts')
  const { printDashboards } = await import('./monitoring/grafana.ts')
  const { printComposePrometheus, printLocalPrometheus } = await import('./monitoring/prometheus.ts')
  const { printChart } = await import('./kubernetes.ts')
  return {
    [typesFile]: printTypes(model.events),
    ...printJsonSchemas(model.events),
    'schemas/asyncapi.yaml': printAsyncApi(model),
    'docs/events.md': printCatalogue(model),
    'docs/saga.md': printSaga(),
    'docs/architecture.md': printArchitecture(model),
    'docs/commands.md': printCommands(workspace),
    'docs/metrics.md': printMetrics(workspace),
    'infra/kafka/acls.json': printAcls(model),
    'docker-compose.yml': printCompose(workspace),
    'infra/prometheus/prometheus.yml': printLocalPrometheus(),
    'infra/prometheus/prometheus.compose.yml': printComposePrometheus(),
    ...printDashboards(),
    ...(await printChart(workspace, model)),
  }
}

/**
 * Brings the derived files up to date, and returns the paths of those that it wrote or, as their event is gone, removed;
 * with `check`, of those that are stale. Throws {@link Refused}, having written nothing, when the schemas or the lock are refused or a version is not
 * registered yet.
 */
export async function generate({ root, check = false, ...given }: GenerateOptions): Promise<string[]> {
  const files = readSchemaFiles(root)
  const { lock, findings } = readLock(root)
  const events = eventsOf(files)
  const problems = [...findings, ...fileFindings(files).filter((finding) => !isPending(finding))]
  const unregistered = problems.length > 0 ? [] : newRows(lock, events).map(notRegistered)
  if (problems.length + unregistered.length > 0) throw new Refused([...problems, ...unregistered])
  const topics = given.topics ?? (await readTopics(root))
  const wiring = given.wiring ?? (await (await import('../schemas/wiring.ts')).readWiring(root))
  const outputs = await outputsOf({ events, lock, topics, wiring })
  const stale = Object.entries(outputs).filter(([file, text]) => readIfThere(join(root, file)) !== text)
  const leftOver = jsonSchemaFiles(root).filter((file) => !Object.hasOwn(outputs, file))
  if (!check) {
    for (const [file, text] of stale) write(join(root, file), text)
    for (const file of leftOver) rmSync(join(root, file))
  }
  return [...stale.map(([file]) => file), ...leftOver]
}

function notRegistered({ subject, version }: { subject: string; version: number }): Finding {
  const message = `version ${version} is not in the lock: run \`npm run schemas -- register\`, which also generates`
  return { rule: 'unregistered', subject, path: pathOf(subject), message }
}

export const usage = `Usage: npm run schemas -- generate [--check]   (also: npm run generate)

Writes what follows from schemas/, its lock, the topics and the services' tables:
  libs/events/src/generated/events.ts   TypeScript types of the events
  schemas/*/*.schema.json               JSON Schema of each event in JSON
  schemas/asyncapi.yaml                 AsyncAPI 3.0 document of all topics
  docs/events.md                        catalogue: each event, its fields, who produces and who consumes it
  docs/saga.md                          tables and pictures of the life of an order and of its reservation
  docs/architecture.md                  a picture of services and topics
  docs/commands.md, docs/metrics.md     every command and every metric, as the code says them
  infra/kafka/acls.json                 what each service may do on which topic
  infra/prometheus/prometheus*.yml      where each service serves its metrics
  infra/grafana/dashboards/*.json       dashboards, from monitoring/
  docker-compose.yml, infra/kubernetes  what containers and pods are told

  --check   writes nothing; says what is stale and exits with 1 if anything is

The lock is not among them: \`npm run schemas -- register\` extends it.`

/** The command; returns its exit code. */
export async function generateCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { check: { type: 'boolean', default: false } } })
  const files = await generate({ root: workspace, check: values.check })
  if (files.length === 0) console.log('Generated files are fresh.')
  else if (!values.check)
    console.log(files.map((file) => `${file} ${existsSync(join(workspace, file)) ? 'written' : 'removed'}`).join('\n'))
  else console.error(files.map((file) => `${file} is stale: run \`npm run generate\` and commit the result`).join('\n'))
  return values.check && files.length > 0 ? 1 : 0
}
