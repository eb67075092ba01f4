import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { identify, isAlive, parseIdentity, repository, writeIdentity } from '@shopstream/local-servers'

/** Folder of a local stack's state: data, secrets, logs, records of its processes. */
export function homeFolder(env: NodeJS.ProcessEnv = process.env): string {
  return env.SHOPSTREAM_HOME ? resolve(env.SHOPSTREAM_HOME) : join(repository, '.shopstream')
}

/** Makes the folder. Others may pass through it (as root, Postgres runs as another user) but not list it. */
function prepareHome(home: string): void {
  mkdirSync(home, { recursive: true })
  chmodSync(home, 0o711)
}

/** One stack per folder: a second one must not touch the first one's data. */
export class AlreadyRunning extends Error {
  readonly pid: number

  constructor(home: string, pid: number) {
    super(
      `the shop of ${home} runs already (pid ${pid}); stop that one first, or give this one a SHOPSTREAM_HOME of its own`,
    )
    this.name = 'AlreadyRunning'
    this.pid = pid
  }
}

/**
 * Claims the folder for this process and returns the function that gives it back. A claim ends with its process, however
 * that ends. Throws {@link AlreadyRunning}.
 */
export function claimHome(home: string): () => void {
  prepareHome(home)
  const claim = join(home, 'stack.pid')
  const mine = join(home, `stack.pid.${process.pid}-${randomBytes(4).toString('hex')}`)
  writeIdentity(mine, process.pid)
  try {
    for (;;) {
      if (takesPlace(mine, claim)) return () => rmSync(claim, { force: true })
      const pid = claimant(home)
      if (pid !== undefined) throw new AlreadyRunning(home, pid)
      removeDeadClaim(claim)
    }
  } finally {
    rmSync(mine, { force: true })
  }
}

/** The process that runs the folder's stack, if one does. */
export function claimant(home: string): number | undefined {
  const claim = join(home, 'stack.pid')
  const owner = existsSync(claim) ? parseIdentity(readFileSync(claim, 'utf8')) : undefined
  return owner && isAlive(owner) ? owner.pid : undefined
}

/** A link appears whole or not at all, and never over another. */
function takesPlace(mine: string, claim: string): boolean {
  try {
    linkSync(mine, claim)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** Moves the dead claim away before removing it; if it was a living one in that very moment, it is put back. */
function removeDeadClaim(claim: string): void {
  const aside = `${claim}.dead-${process.pid}`
  try {
    renameSync(claim, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return // another one was faster
    throw error
  }
  const owner = parseIdentity(readFileSync(aside, 'utf8'))
  if (owner && isAlive(owner)) takesPlace(aside, claim)
  rmSync(aside, { force: true })
}

export interface Secrets {
  postgresPassword: string
  /** Under which the user service keeps its private keys. */
  keyEncryptionSecret: string
  staffPassword: string
  /** Database passwords by service. */
  databasePasswords: Record<string, string>
  /** By companion. */
  companionPasswords: Record<string, string>
}

/** The folder's secrets, made at random the first time; readable by their owner alone. */
export function readSecrets(home: string, services: readonly string[], companions: readonly string[] = []): Secrets {
  const file = join(home, 'secrets.json')
  const known: Partial<Secrets> = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
  const secret = (bytes: number) => randomBytes(bytes).toString('base64url')
  const passwords = (names: readonly string[], made: Record<string, string> = {}) =>
    Object.fromEntries(names.map((name) => [name, made[name] ?? secret(18)]))
  const secrets: Secrets = {
    postgresPassword: known.postgresPassword ?? secret(18),
    keyEncryptionSecret: known.keyEncryptionSecret ?? secret(32),
    staffPassword: known.staffPassword ?? `staff-${randomBytes(6).toString('hex')}`,
    databasePasswords: passwords(services, known.databasePasswords),
    // Of those that were asked for at some time.
    companionPasswords: { ...known.companionPasswords, ...passwords(companions, known.companionPasswords) },
  }
  writePrivate(file, JSON.stringify(secrets, null, 2))
  return secrets
}

/** Writes a file that only its owner may read, whole or not at all. */
export function writePrivate(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

/** How to reach the stack that runs in a folder; kept in `shop.json` while it runs. */
export interface RunningShop {
  pid: number
  gatewayUrl: string
  mailUrl: string
  /** URLs of what runs beside it (`npm start -- --with …`), by the variable that tells each: `REDIS_URL`. */
  companionUrls: Record<string, string>
  smtpUrl: string
  brokers: string[]
  topicPrefix: string
  postgresUrl: string
  /** URL of each service's database, by its own role. */
  databaseUrls: Record<string, string>
  staff: { email: string; password: string }
  /** URL of each service's own HTTP. */
  services: Record<string, string>
}

/** The stack that runs in this folder, for commands that use it; undefined when none does or it is still starting. */
export function runningShop(home: string = homeFolder()): RunningShop | undefined {
  const pid = claimant(home)
  const file = join(home, 'shop.json')
  if (pid === undefined || !existsSync(file)) return undefined
  const shop: RunningShop = JSON.parse(readFileSync(file, 'utf8'))
  return shop.pid === pid && identify(pid) ? shop : undefined
}
