import { parseArgs } from 'node:util'
import type { LockEntry } from '@shopstream/events/codec'
import { UsageError } from '../terminal/options.ts'
import { workspace } from './files.ts'
import { readLock } from './lock.ts'

export const usage = `Usage: npm run schemas -- publish --to URL [--other-ids] [--dry-run] [--json]

Writes every version of ${'schemas/registry.lock.json'} to a Schema Registry with Confluent's API, under the same ids, as
messages carry them; this needs its import mode. What is there already is left alone, so repeating it changes nothing.

  --to URL      such as https://registry.example.com
  --other-ids   where ids cannot be kept, publish all the same; readers cannot find the schemas of our messages by id
  --dry-run     only says what would be done
  --json        prints [{subject, version, id, outcome, theirId}]

Environment: SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD, where it asks for them.

Exit code 0 when every version is there, 1 when one is not or has another id, or the registry fails.`

type Outcome = 'there' | 'published' | 'other-id' | 'missing'

/** What became of a version. */
export interface Publication {
  subject: string
  version: number
  id: number
  outcome: Outcome
  /** The id that the registry has given it, where it is another one. */
  theirId?: number
  /** Its version there, where it is another one. */
  theirVersion?: number
}

export interface PublishOptions {
  /** Of the registry, without credentials. */
  url: string
  credentials?: { user: string; password: string } | undefined
  /** Publishes also where ids cannot be kept. */
  otherIds?: boolean
  dryRun?: boolean
  /** Stops after the request under way; the subject's mode is put back first. */
  signal?: AbortSignal
  /** Told of each version. */
  onProgress?: (publication: Publication) => void
}

/** The registry does not answer as it should; its text never holds credentials. */
export class RegistryFailure extends Error {}

const answerMs = 15_000

/**
 * Brings a registry up to date with a lock. Throws {@link RegistryFailure} when it cannot be reached or refuses; what
 * was published by then stays, and repeating goes on from there. A subject's mode is put back, also then.
 */
export async function publishLock(lock: readonly LockEntry[], options: PublishOptions): Promise<Publication[]> {
  const { otherIds = false, dryRun = false, onProgress = () => {} } = options
  const registry = connect(options)
  const { status } = await registry.ask('GET', '/subjects')
  if (status === 404)
    throw new RegistryFailure(
      `no schema registry answers at ${options.url} (404 at /subjects): its path may be missing, such as /schema-registry`,
    )
  const publications: Publication[] = []
  for (const [subject, rows] of Map.groupBy(lock, (row) => row.subject)) {
    if (options.signal?.aborted) throw new RegistryFailure('Stopped.')
    const found: Publication[] = []
    for (const row of rows) found.push(await find(registry, row))
    const missing = rows.filter((_, at) => found[at]?.outcome === 'missing')
    const published =
      missing.length === 0 || dryRun
        ? new Map<number, Publication>()
        : await publishSubject(registry, subject, missing, otherIds, options.signal)
    for (const before of found) {
      const publication = published.get(before.id) ?? before
      publications.push(publication)
      onProgress(publication)
    }
  }
  return publications
}

const about = ({ subject, version, id }: LockEntry) => ({ subject, version, id })

async function find(registry: Registry, row: LockEntry): Promise<Publication> {
  const { status, body } = await registry.ask('POST', `/subjects/${row.subject}`, {
    schema: JSON.stringify(row.schema),
  })
  if (status === 404) return { ...about(row), outcome: 'missing' }
  if (status !== 200) throw registry.failure(`looking for ${row.subject}`, status, body)
  if (!Number.isInteger(body?.id)) throw registry.isNone(`looking for ${row.subject}`)
  const found = { ...about(row), ...(body.version !== row.version && { theirVersion: body.version }) }
  return body.id === row.id ? { ...found, outcome: 'there' } : { ...found, outcome: 'other-id', theirId: body.id }
}

/** Publishes versions of one subject in import mode or, where there is none, under the registry's own ids if that is wanted. */
async function publishSubject(
  registry: Registry,
  subject: string,
  rows: readonly LockEntry[],
  otherIds: boolean,
  signal: AbortSignal | undefined,
): Promise<Map<number, Publication>> {
  const before = await registry.ask('GET', `/mode/${subject}`)
  if (before.status !== 200 && before.status !== 404)
    throw registry.failure(`asking for the mode of ${subject}`, before.status, before.body)
  const entered = await registry.ask('PUT', `/mode/${subject}?force=true`, { mode: 'IMPORT' })
  const keepsIds = entered.status === 200
  if (!keepsIds && ![404, 405, 422].includes(entered.status))
    throw registry.failure('entering import mode', entered.status, entered.body)
  const published = new Map<number, Publication>()
  if (!keepsIds && !otherIds) return published
  const publishAll = async () => {
    if (keepsIds) await refuseToReplace(registry, subject, rows)
    for (const row of rows) {
      if (signal?.aborted) throw new RegistryFailure('Stopped.')
      const wanted = { schema: JSON.stringify(row.schema), ...(keepsIds && { id: row.id, version: row.version }) }
      const { status, body } = await registry.ask('POST', `/subjects/${subject}/versions`, wanted)
      if (status !== 200) throw registry.failure(`publishing version ${row.version} of ${subject}`, status, body)
      const isKept = body.id === row.id
      if (!isKept && !otherIds) throw registry.ignores(row, body.id)
      const other = { outcome: 'other-id', theirId: body.id } as const
      published.set(row.id, { ...about(row), ...(isKept ? { outcome: 'published' } : other) })
    }
  }
  const failure = await publishAll().catch((error: Error) => error)
  const stays = keepsIds && (await leaveImportMode(registry, subject, before).catch((error: Error) => error))
  if (failure && stays) throw new RegistryFailure(`${failure.message}\nAnd then: ${stays.message}`, { cause: failure })
  if (failure || stays) throw failure || stays
  return published
}

/** In import mode Confluent's registry replaces a version that is there by what it is sent, whatever that was. */
async function refuseToReplace(registry: Registry, subject: string, rows: readonly LockEntry[]): Promise<void> {
  const { status, body } = await registry.ask('GET', `/subjects/${subject}/versions`)
  if (status === 404) return
  if (status !== 200 || !Array.isArray(body)) throw registry.failure(`listing ${subject}`, status, body)
  const taken = rows.find(({ version }) => body.includes(version))
  if (taken) throw registry.hasAnother(taken)
}

async function leaveImportMode(registry: Registry, subject: string, before: Answer): Promise<void> {
  const left =
    before.status === 200 && before.body.mode !== 'IMPORT' // which a run that was killed has left
      ? await registry.ask('PUT', `/mode/${subject}?force=true`, { mode: before.body.mode })
      : await registry.ask('DELETE', `/mode/${subject}`)
  if (left.status !== 200)
    throw registry.failure(`putting back the mode of ${subject}, which is IMPORT now,`, left.status, left.body)
}

interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: as the registry answers
  body: any
}

interface Registry {
  ask(method: string, path: string, body?: object): Promise<Answer>
  failure(what: string, status: number, body: { message?: string } | undefined): RegistryFailure
  /** What answers there is something else. */
  isNone(what: string): RegistryFailure
  /** Its version of this number is not ours. */
  hasAnother(row: LockEntry): RegistryFailure
  /** It said that it keeps ids, and has given another. */
  ignores(row: LockEntry, theirId: number): RegistryFailure
}

function connect({ url, credentials }: PublishOptions): Registry {
  const base = url.replace(/\/+$/, '')
  const authorization =
    credentials && `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`
  return {
    async ask(method, path, body) {
      const { status, location, text } = await fetch(base + path, {
        method,
        redirect: 'manual',
        signal: AbortSignal.timeout(answerMs),
        headers: {
          accept: 'application/vnd.schemaregistry.v1+json',
          ...(body && { 'content-type': 'application/vnd.schemaregistry.v1+json' }),
          ...(authorization && { authorization }),
        },
        ...(body && { body: JSON.stringify(body) }),
      })
        .then(async (response) => ({
          status: response.status,
          location: response.headers.get('location'),
          text: await response.text(),
        }))
        .catch((error: Error) => {
          const reason =
            error.name === 'TimeoutError'
              ? `no answer within ${answerMs / 1000} s`
              : (error.cause as Error)?.message || error.message
          throw new RegistryFailure(`${base} cannot be reached: ${reason}`, { cause: error })
        })
      if (status === 401)
        throw new RegistryFailure(
          `${base} wants other credentials: set SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD`,
        )
      if (status >= 300 && status < 400) throw new RegistryFailure(`${base} sends on to ${location}: name that address`)
      try {
        return { status, body: text === '' ? {} : JSON.parse(text) }
      } catch {
        if (status === 404 || status === 405) return { status, body: {} } // a route it lacks
        throw new RegistryFailure(
          `${base} answered ${method} ${path} with ${status} and no JSON: is it a schema registry?`,
        )
      }
    },
    isNone: (what) => new RegistryFailure(`${base} answered ${what} as no schema registry does: is its address right?`),
    hasAnother: ({ subject, version }) =>
      new RegistryFailure(
        `${base} has another schema as version ${version} of ${subject}, which publishing would replace: delete it there first if nobody needs it`,
      ),
    ignores: ({ subject, version, id }, theirId) =>
      new RegistryFailure(
        `${base} cannot keep ids, although it takes import mode: it has put version ${version} of ${subject} under ${theirId}, not ${id}; delete it there, or publish all with --other-ids`,
      ),
    failure: (what, status, body) =>
      new RegistryFailure(`${base} refused ${what} with ${status}${body?.message ? `: ${body.message}` : ''}`),
  }
}

const words: Record<Outcome, (publication: Publication) => string> = {
  there: ({ theirVersion }) => `is there already${theirVersion === undefined ? '' : `, as version ${theirVersion}`}`,
  published: () => 'published',
  'other-id': ({ theirId }) => `is there under another id, ${theirId}`,
  missing: () => 'is not there',
}

/** The command; returns its exit code. */
export async function publishCommand(args: string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      to: { type: 'string' },
      'other-ids': { type: 'boolean' },
      'dry-run': { type: 'boolean' },
      json: { type: 'boolean' },
    },
  })
  const url = URL.parse(values.to ?? '')
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash)
    throw new UsageError(`--to takes the registry's URL, without ? and #`)
  if (url.username || url.password)
    throw new UsageError('--to takes no credentials: set SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD')
  const { lock, findings } = readLock(workspace)
  if (findings.length > 0) throw new UsageError('the lock is broken: npm run schemas -- check')
  const { SCHEMA_REGISTRY_USER: user, SCHEMA_REGISTRY_PASSWORD: password } = env
  if ((user === undefined) !== (password === undefined))
    throw new UsageError('SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD go together: set both or neither')
  const stopping = new AbortController()
  const stop = () => stopping.abort()
  process.once('SIGINT', stop)
  let listed = false
  try {
    const publications = await publishLock(lock, {
      url: url.href,
      credentials: user !== undefined && password !== undefined ? { user, password } : undefined,
      otherIds: values['other-ids'] ?? false,
      dryRun: values['dry-run'] ?? false,
      signal: stopping.signal,
      onProgress: (one) => {
        if (values.json) return
        listed = true
        console.log(`${one.id} ${one.subject} v${one.version} ${words[one.outcome](one)}`)
      },
    })
    if (values.json) console.log(JSON.stringify(publications, null, 2))
    return summarise(publications, values['dry-run'] ?? false)
  } catch (error) {
    if (!(error instanceof RegistryFailure)) throw error
    console.error(
      listed ? `${error.message}\nWhat is listed above is done; the same command goes on from there.` : error.message,
    )
    return 1
  } finally {
    process.off('SIGINT', stop)
  }
}

function summarise(publications: readonly Publication[], dryRun: boolean): number {
  const count = (outcome: Outcome) => publications.filter((one) => one.outcome === outcome).length
  const [missing, others] = [count('missing'), count('other-id')]
  if (missing > 0)
    console.error(
      dryRun
        ? `${missing} versions would be published.`
        : `${missing} versions were not published: this registry has no import mode, so it would give them other ids than those in our messages. --other-ids publishes them all the same.`,
    )
  if (others > 0)
    console.error(
      `${others} versions have another id there: readers that go by the id in our messages do not find them, or find another schema. What this registry cannot keep are the ids.`,
    )
  return (missing > 0 && !dryRun) || others > 0 ? 1 : 0
}
