import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { LockEntry } from '@shopstream/events/codec'
import { normalise, type RecordSchema } from '@shopstream/events/schema'
import { goldenFolder } from '@shopstream/testing/golden'
import { serviceNames } from '../services.ts'
import { eventsOf, readSchemaFiles, workspace } from './files.ts'
import { writeGolden } from './golden.ts'
import { fingerprint, lockFile, printLock, readLock } from './lock.ts'
import type { ServiceWiring } from './wiring.ts'

// biome-ignore lint/suspicious/noExplicitAny: schemas as JSON, which tests change at will
export type Json = any

/** A copy of what schemas consist of, to be spoilt. */
export interface Copy {
  readonly root: string
  read(file: string): string
  write(file: string, text: string): void
  /** Throws when `from` is not in the file. */
  replace(file: string, from: string, to: string): void
  remove(file: string): void
  /** Changes a schema as JSON; the file keeps the one layout. */
  edit(file: string, change: (schema: Json) => void): void
  lock(): LockEntry[]
  /** A copy of this copy, as it is now. */
  again(): Copy
  drop(): void
}

const parts = [
  'schemas',
  'libs/events/src/catalogue/topics.ts',
  'libs/events/src/generated',
  'docs/events.md',
  'docs/saga.md',
  'docs/architecture.md',
  'docs/commands.md',
  'docs/metrics.md',
  'docker-compose.yml',
  'infra/grafana/dashboards',
  'infra/kafka',
  'infra/kubernetes/shopstream',
  'infra/prometheus',
]

/** Without services that a clone has added: what tests expect of who reads what is said of these. */
export const ofTheShop = (wiring: readonly ServiceWiring[]): ServiceWiring[] =>
  wiring.filter(({ service }) => ['inventory', 'notification', 'order', 'user'].includes(service))

/** Copies schemas, locks, topics and derived files of this workspace, and the services' tables. */
export function copySchemas(layOut: (text: string) => string): Copy {
  const root = newRoot()
  for (const part of [...parts, ...tables]) {
    cpSync(join(workspace, part), join(root, part), { recursive: true, force: true })
  }
  rmSync(join(root, goldenFolder), { recursive: true })
  const lock = firstVersions(root)
  writeFileSync(join(root, lockFile), printLock(lock))
  writeGolden(root, lock)
  return copyAt(root, layOut)
}

const newRoot = () => mkdtempSync(join(tmpdir(), 'shopstream-schemas-'))

function copyAt(root: string, layOut: (text: string) => string): Copy {
  const read = (file: string) => readFileSync(join(root, file), 'utf8')
  const write = (file: string, text: string) => {
    mkdirSync(join(root, dirname(file)), { recursive: true })
    writeFileSync(join(root, file), text)
  }
  return {
    root,
    read,
    write,
    replace(file, from, to) {
      if (!read(file).includes(from)) throw new Error(`${file} does not have ${from}`)
      write(
        file,
        read(file).replaceAll(from, () => to),
      )
    },
    remove: (file) => rmSync(join(root, file)),
    edit(file, change) {
      const schema = JSON.parse(read(file))
      change(schema)
      write(file, layOut(JSON.stringify(schema)))
    },
    lock: () => JSON.parse(read('schemas/registry.lock.json')),
    again() {
      const other = newRoot()
      cpSync(root, other, { recursive: true })
      return copyAt(other, layOut)
    },
    drop: () => rmSync(root, { recursive: true }),
  }
}

/** Each event as it is now, as its first version: so the tests hold, whatever has been registered since. */
function firstVersions(root: string): LockEntry[] {
  const events = new Map(eventsOf(readSchemaFiles(root)).map((event) => [event.name, event]))
  return readLock(root)
    .lock.filter(({ version }) => version === 1)
    .map((row) => {
      const schema = normalise(events.get(row.subject) as RecordSchema)
      return { ...row, schema, fingerprint: fingerprint(schema) }
    })
}

const tables = serviceNames.flatMap((service) => [
  `services/${service}/src/produces.ts`,
  `services/${service}/package.json`,
])
