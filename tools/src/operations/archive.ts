import { randomBytes } from 'node:crypto'
import { open, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type ArchiveFile, archive as archiveTable, leastDays, type Retention } from '@shopstream/messaging/operations'
import { good, plural } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { untilInterrupted } from '../terminal/repeat.ts'
import { reasonOf } from './answers.ts'
import { ownershipOf } from './services.ts'
import { type Owner, owners, reachHelp, withReach } from './shop-access.ts'

const mostDays = 36_500

export const usage = `Usage: npm run shop -- archive [--to FOLDER --yes] [options]

Moves what is over and old out of the databases into files: orders, reservations, mails, and what people did to parked
messages. Without --yes it only says what would be moved. Whatever is not over, and whatever a message still waits for,
stays. It may run while the shop does, and may be killed at any moment and repeated.

  --to FOLDER      where the files go, one per table and run: gzip, a line of JSON per row with all that goes with it.
                   It must be there, so that nothing goes to a disk that is not mounted
  --yes            does it
  --only TABLE,... these tables: order, reservation, notification, parked_action
  --days N         so long ago it must have changed last, ${leastDays} days at the least: until then events about it may come
                   again. Default: ARCHIVE_AFTER_DAYS, or what each table says (services/NAME/src/owns.ts)

The files hold personal data, and are all that is left: keep them as you keep backups. A batch counts when the database's
table archived_batch has its file and number; one that it does not know, as of a run that was killed, is still in the
database, or in a later file. The API answers 404 for what was archived; explain says where it is, and verify knows it.
See docs/adr/0018-archives.md. Exit code 0, or 1 when it is refused or did not come to the end.

${reachHelp}`

interface Task {
  owner: Owner
  retention: Retention
  days: number
}

export async function archive(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      to: { type: 'string' },
      yes: { type: 'boolean' },
      only: { type: 'string' },
      days: { type: 'string' },
    },
  })
  if (values.yes && !values.to) throw new UsageError(`archive --yes needs --to FOLDER.`)
  const tasks = await tasksFor(values.only?.split(','), ageFrom(values.days))
  const folder = values.yes ? await folderNamed(values.to as string) : undefined
  const stop = untilInterrupted()
  return withReach(async ({ databases }) => {
    let all = 0
    for (const { owner, retention, days } of tasks) {
      if (stop.aborted) break
      const name = `${owner}.${retention.table}`
      const file = folder === undefined ? undefined : archiveFile(folder, name)
      const told = sparingly((rows) => print(`  ${name}: ${rows} rows looked at`))
      const run = archiveTable(databases[owner], retention, { days, file, signal: stop, told })
      const { rows, moved } = await run
        .catch((error) => {
          throw new Refusal(`${name}: ${reasonOf(error)}. What was moved is in the files; repeat it for the rest.`)
        })
        .finally(() => file?.close())
      all += moved
      const old = `${name}: ${moved} of ${plural(rows, 'row')} ${moved === 1 ? 'is' : 'are'} over and older than ${plural(days, 'day')}`
      print(file && moved > 0 ? `${old}, now in ${file.name}; ${rows - moved} remain` : old)
    }
    if (stop.aborted) throw new Refusal('It was interrupted: repeat it for the rest.')
    if (folder) print(good(all > 0 ? `What was old is in ${folder}.` : 'Nothing was over and old enough.'))
    else print('Nothing was moved: --to FOLDER --yes does it.')
    return 0
  })
}

/** In days; undefined where nobody has set it. Throws a UsageError for what is no age, and a Refusal for one that is too young. */
function ageFrom(option: string | undefined): number | undefined {
  if (option !== undefined) return wholeDays('--days', option)
  const setting = process.env.ARCHIVE_AFTER_DAYS
  return setting ? wholeDays('ARCHIVE_AFTER_DAYS', setting) : undefined
}

/** What is to be done. Throws a UsageError for tables that are none. */
async function tasksFor(only: readonly string[] | undefined, age: number | undefined): Promise<Task[]> {
  const all = await Promise.all(
    owners.map(async (owner) => (await ownershipOf(owner)).retention.map((retention) => ({ owner, retention }))),
  )
  const tasks = all.flat().map((task) => ({ ...task, days: age ?? task.retention.days }))
  const names = new Set(tasks.map(({ retention }) => retention.table))
  for (const name of only ?? [])
    if (!names.has(name)) throw new UsageError(`--only takes ${[...names].join(', ')}, not ${name}`)
  return tasks.filter(({ retention }) => !only || only.includes(retention.table))
}

/** @param name what it was set by. */
function wholeDays(name: string, text: string): number {
  const days = Number(text)
  if (!Number.isInteger(days) || days < 0 || days > mostDays)
    throw new UsageError(`${name} is a whole number of days, ${mostDays} at the most, not ${text}`)
  if (days < leastDays)
    throw new Refusal(
      `${plural(days, 'day')} is too young: topics keep events, and inboxes know them, so that for ${leastDays} days one may come again. ` +
        `It was set by ${name}; --days and ARCHIVE_AFTER_DAYS take ${leastDays} at the least.`,
    )
  return days
}

/** From where npm was called. */
async function folderNamed(name: string): Promise<string> {
  const folder = resolve(process.env.INIT_CWD ?? '', name)
  const found = await stat(folder).catch(() => undefined)
  if (!found?.isDirectory()) throw new Refusal(`There is no folder ${folder}: make it first, where it is to stay.`)
  return folder
}

const compress = promisify(gzip)

/**
 * A file that is made with its first batch, and readable by nobody else. Each batch is a gzip member of its own: a file
 * whose run was killed can be read up to there by any gzip.
 */
export function archiveFile(folder: string, name: string): ArchiveFile & { close(): Promise<void> } {
  const file = `${name}.${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}-${randomBytes(3).toString('hex')}.jsonl.gz`
  let opened: ReturnType<typeof open> | undefined
  return {
    name: file,
    async append(lines) {
      opened ??= create(folder, file)
      const handle = await opened
      await handle.appendFile(await compress(lines.map((line) => `${line}\n`).join('')))
      await handle.sync()
    },
    close: async () => (await opened?.catch(() => undefined))?.close(), // what it says is said by `append`
  }
}

/** Its name is on the disk as well. */
async function create(folder: string, file: string) {
  const handle = await open(join(folder, file), 'ax', 0o600)
  const parent = await open(folder)
  await parent.sync()
  await parent.close()
  return handle
}

const tellEvery = 50_000

/** Of a walk that looks at 500 rows at a time. */
function sparingly(write: (rows: number) => void) {
  let next = tellEvery
  return ({ rows }: { rows: number }) => {
    if (rows < next) return
    next = rows + tellEvery
    write(rows)
  }
}
