import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { type RecordSchema, shortName } from '@shopstream/events/schema'
import { eventsOf, readIfThere, readSchemaFiles, workspace, write } from '../schemas/files.ts'
import { watchedFiles } from '../schemas/new.ts'
import { Refusal, readArguments, UsageError } from '../terminal/options.ts'

export interface NewService {
  /** Top of the workspace. */
  root: string
  /** Small letters and digits: the name of its folder, database, consumer group and variables. */
  name: string
  /** What it consumes: `OrderDelivered`. */
  event: string
  /** What the gateway passes on to it: `/v1/reviews`. */
  path: string
}

/** Which services there are. */
const listFile = 'services/gateway/src/services.ts'
const lockFile = 'package-lock.json'
/** An alert tells of each service that is away, by its name. */
const alertsFile = 'infra/prometheus/alerts.yml'
/** What npm has put into node_modules, where it was installed. */
const installedFile = 'node_modules/.package-lock.json'
const templates = 'tools/templates/service'

/** Names of other parts, of their settings (`PUBLIC_URL`, `METRICS_PORT`), and what ends a picture. */
const takenNames = ['gateway', 'deployment', 'postgres', 'shop', 'mail', 'smtp', 'kafka', 'public', 'metrics', 'end']
/** The default of the gateway's metrics, which lies behind the services'. */
const metricsPort = 8_089

/** Every service that consumes anything consumes these already. */
const consumedByAll = ['SigningKeyPublished', 'SigningKeyRetired', 'SchemaRegistered']

/**
 * Adds a service with a database: its folder, its row in the gateway's list and its place in the lock. Returns the files
 * that it wrote. Throws {@link UsageError}, having written nothing, when it cannot be made.
 */
export function newService(service: NewService): string[] {
  const { root, name } = service
  requireFree(service)
  const own = filesOf(service, readEvents(root))
  const manifest = JSON.parse(own[`services/${name}/package.json`] as string)
  const installed = readIfThere(join(root, installedFile))
  const files = {
    ...own,
    [listFile]: withRow(readFileSync(join(root, listFile), 'utf8'), service),
    [lockFile]: withPackage(readFileSync(join(root, lockFile), 'utf8'), name, manifest),
    [alertsFile]: withAlert(readFileSync(join(root, alertsFile), 'utf8'), name),
    ...(installed !== undefined && { [installedFile]: withPackage(installed, name, manifest) }),
  }
  for (const [file, text] of Object.entries(files)) write(join(root, file), text)
  if (installed !== undefined) {
    rmSync(linkOf(root, name), { force: true }) // left behind by who deleted the folder alone
    symlinkSync(`../../services/${name}`, linkOf(root, name))
  }
  return Object.keys(files).filter((file) => file !== installedFile)
}

/**
 * Takes a service away again that {@link newService} has made and nobody has changed since. Returns the files that it
 * wrote. Throws {@link Refusal}, having changed nothing, when there is work in its folder.
 */
export function removeService(root: string, name: string): string[] {
  const folder = join(root, 'services', name)
  const list = readFileSync(join(root, listFile), 'utf8')
  const row = rowOf(list, name)
  const [, event] =
    /on\(\{ (\w+): \[\] \}, keepReceived\)/.exec(readIfThere(join(folder, 'src/consumes.ts')) ?? '') ?? []
  if (row === undefined) throw new UsageError(`there is no service ${name} in ${listFile}`)
  const made = event === undefined ? {} : filesOf({ root, name, event, path: row.path }, readEvents(root))
  const there = filesBelow(folder)
    .map((file) => `services/${name}/${file}`)
    .filter((file) => readIfThere(join(root, file)) !== made[file])
  if (there.length > 0) {
    throw new Refusal(
      `services/${name} holds work that would be lost: ${there.join(', ')}. Delete the folder yourself.`,
    )
  }
  const installed = readIfThere(join(root, installedFile))
  const files = {
    [listFile]: list.replace(row.text, ''),
    [lockFile]: withoutPackage(readFileSync(join(root, lockFile), 'utf8'), name),
    [alertsFile]: readFileSync(join(root, alertsFile), 'utf8').replace(alertOf(name), ''),
    ...(installed !== undefined && { [installedFile]: withoutPackage(installed, name) }),
  }
  for (const [file, text] of Object.entries(files)) write(join(root, file), text)
  rmSync(linkOf(root, name), { force: true })
  rmSync(folder, { recursive: true, force: true }) // it may be gone already
  rmSync(join(root, `infra/grafana/dashboards/${name}.json`), { force: true })
  return [listFile, lockFile, alertsFile]
}

/** Every file of a folder but what is built or installed there; none where there is no folder. */
function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)).replaceAll('\\', '/'))
    .filter((file) => !/^(dist|node_modules)\//.test(file))
    .sort()
}

const linkOf = (root: string, name: string) => join(root, 'node_modules/@shopstream', `${name}-service`)

function readEvents(root: string): Map<string, RecordSchema> {
  return new Map(eventsOf(readSchemaFiles(root)).map((schema) => [shortName(schema.name), schema]))
}

/** The files of its folder, by path from the top of the workspace. */
function filesOf({ root, name, event, path }: NewService, events: ReadonlyMap<string, RecordSchema>) {
  const schema = events.get(event)
  if (!schema || consumedByAll.includes(event)) {
    const known = [...events.keys()].filter((one) => !consumedByAll.includes(one))
    throw new UsageError(`there is no event ${event} to consume; there are ${known.join(', ')}`)
  }
  const watched = [event, 'SigningKeyPublished', 'SigningKeyRetired'].map((one) =>
    watchedFiles((events.get(one) as RecordSchema).name),
  )
  const words: Record<string, string> = {
    name,
    Name: capital(name),
    event,
    path,
    tag: path.split('/').at(-1) as string,
    variable: event.charAt(0).toLowerCase() + event.slice(1),
    keyField: schema.fields[0]?.name ?? 'key',
    contracts: JSON.stringify(watched.toSorted(), null, 2).replaceAll('\n', '\n      '),
  }
  const fill = (text: string) => text.replaceAll(/\{\{(\w+)\}\}/g, (_, word: string) => words[word] as string)
  const folder = join(root, templates)
  const texts = filesBelow(folder).map((file): [string, string] => [
    `services/${name}/${file.slice(0, -'.template'.length)}`,
    fill(readFileSync(join(folder, file), 'utf8')),
  ])
  return formatted(root, texts)
}

/** As `npm run format` leaves them: how long a line is depends on the words in it. */
function formatted(root: string, texts: readonly [string, string][]): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'shopstream-new-'))
  try {
    const { formatter, javascript } = JSON.parse(readFileSync(join(root, 'biome.json'), 'utf8'))
    write(join(folder, 'biome.json'), JSON.stringify({ formatter, javascript }))
    for (const [file, text] of texts) write(join(folder, file), text)
    const biome = join(workspace, 'node_modules/.bin/biome')
    const { status, stderr } = spawnSync(biome, ['format', '--write', 'services'], { cwd: folder, encoding: 'utf8' })
    if (status !== 0) throw new Error(`the templates cannot be formatted: ${stderr}`)
    return Object.fromEntries(texts.map(([file]) => [file, readFileSync(join(folder, file), 'utf8')]))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1)

function requireFree({ root, name, path }: NewService): void {
  if (!/^[a-z][a-z0-9]{1,30}$/.test(name)) {
    throw new UsageError(`${name} is no name of a service: small letters and digits, a letter first, such as review`)
  }
  if (!/^\/v1\/[a-z][a-z0-9-]*$/.test(path)) {
    throw new UsageError(`${path} is no path of a service: /v1/ and one word, such as /v1/reviews`)
  }
  if (existsSync(join(root, 'services', name))) throw new UsageError(`services/${name} is there already`)
  const rows = rowsOf(readFileSync(join(root, listFile), 'utf8'))
  if (rows.some((row) => row.name === name)) {
    throw new UsageError(`${name} is in ${listFile} already: npm run new -- service ${name} --remove takes it away`)
  }
  const taken = rows.find(({ text }) => text.includes(`'${path}'`))
  if (taken) throw new UsageError(`${path} belongs to ${taken.name}: say another one with --path`)
  if (takenNames.includes(name)) {
    throw new UsageError(`${name} is the name of another part of the shop`)
  }
}

/** The rows of the list in {@link listFile}. */
function rowsOf(list: string) {
  const row = /^ {2}(\w+): \{ port: (\d+), paths: \['([^']+)'.*\},\n/gm
  return [...list.matchAll(row)].map(([text, name, port, path]) => ({
    text,
    name,
    port: Number(port),
    path: path ?? '',
  }))
}

const rowOf = (list: string, name: string) => rowsOf(list).find((row) => row.name === name)

/** With the port after the last one. */
function withRow(list: string, { name, path }: NewService): string {
  const last = rowsOf(list).at(-1)
  if (!last) throw new Error(`${listFile} has no rows of services as they are expected`)
  const port = last.port + 1 === metricsPort ? metricsPort + 1 : last.port + 1
  const row = `  ${name}: { port: ${port}, paths: ['${path}'] },\n`
  return list.replace(last.text, () => last.text + row)
}

const alertOf = (name: string) => `            or absent(shopstream_service_info{service="${name}"})\n`

/** Before the gateway, which is the last in every list. */
function withAlert(alerts: string, name: string): string {
  const last = alertOf('gateway')
  if (!alerts.includes(last)) throw new Error(`${alertsFile} does not ask for the gateway as it is expected`)
  return alerts.replace(last, () => alertOf(name) + last)
}

interface Lock {
  packages: Record<string, object>
}

/** As npm would write it, without asking a registry: a package of the workspace brings nothing from elsewhere. */
function withPackage(lock: string, name: string, manifest: { name: string; version: string; dependencies: object }) {
  const { name: called, version, dependencies } = manifest
  return withPackages(lock, (packages) => ({
    ...packages,
    [`node_modules/${called}`]: { resolved: `services/${name}`, link: true },
    [`services/${name}`]: { name: called, version, dependencies },
  }))
}

function withoutPackage(lock: string, name: string): string {
  const gone = [`node_modules/@shopstream/${name}-service`, `services/${name}`]
  return withPackages(lock, (packages) =>
    Object.fromEntries(Object.entries(packages).filter(([path]) => !gone.includes(path))),
  )
}

function withPackages(lock: string, change: (packages: Lock['packages']) => Lock['packages']): string {
  const whole = JSON.parse(lock) as Lock
  const packages = Object.entries(change(whole.packages)).sort(([a], [b]) => a.localeCompare(b, 'en'))
  return `${JSON.stringify({ ...whole, packages: Object.fromEntries(packages) }, null, 2)}\n`
}

export const usage = `Usage: npm run new -- service NAME [--consumes EVENT] [--path PATH]
       npm run new -- service NAME --remove

Adds a service with a database of its own: it starts, migrates, consumes one event and answers one route; its tests and
its contract hold; the gateway, npm start, npm run shop, ACLs and documents know it. docs/add-a-service.md goes on.

  NAME              small letters and digits: review
  --consumes EVENT  default OrderDelivered; docs/events.md lists all
  --path PATH       what the gateway passes on to it; default /v1/NAMEs
  --remove          takes it away again, if nobody has changed a file of it

Exit code 0; 2 for what cannot be, or 1 for a folder with work in it: nothing is written then.`

/** The command; returns its exit code. */
export async function newServiceCommand(): Promise<number> {
  const { values, positionals } = readArguments(usage, {
    consumes: { type: 'string', default: 'OrderDelivered' },
    path: { type: 'string' },
    remove: { type: 'boolean', default: false },
  })
  const [, name, ...others] = positionals
  if (name === undefined || others.length > 0) throw new UsageError('service takes one name')
  const files = values.remove
    ? removeService(workspace, name)
    : newService({ root: workspace, name, event: values.consumes, path: values.path ?? `/v1/${name}s` })
  console.log(files.map((file) => `${file} written`).join('\n'))
  if (values.remove) console.log(`services/${name} deleted`)
  // In a process of its own: this one has the list as it was.
  const { status } = spawnSync(process.execPath, ['tools/src/commands/generate.ts'], {
    cwd: workspace,
    stdio: 'inherit',
  })
  if (status === 0 && !values.remove) console.log(whatIsNext(name))
  return status ?? 1
}

const whatIsNext = (name: string) => `
Try it:
  npm test -- services/${name}
  npm run check
  npm start                      it listens beside the others; its database is made
  npm run shop -- verify         what it consumes is verified, too
What makes it yours: services/${name}/src/received.ts is what happens with an event. docs/add-a-service.md goes on.`
