import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { bad, good } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { reasonOf } from './answers.ts'
import { owners } from './shop-access.ts'

export const usage = `Usage: npm run shop -- secrets FOLDER [--show FILE]

Writes the secrets that a deployment by containers needs, at random, each into a file of its own below FOLDER, in a folder for
each process that reads it. What is there already stays. Every service takes such files as NAME_FILE.

  --show FILE   prints one of them, such as user/staff-password

STAFF_PASSWORD and POSTGRES_PASSWORD in the environment are taken instead of random ones; POSTGRES_HOST (postgres:5432) is where
the services find their databases.`

/**
 * Whoever gets into a process's folder may read it, as images run as a user without a name; a container has its own folder
 * alone, and on a machine nobody but its owner gets into the one above.
 */
const mode = { file: 0o444, folder: 0o700 }

export async function secrets(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { show: { type: 'string' } } })
  const [folder, ...more] = positionals
  if (folder === undefined || more.length > 0) throw new UsageError('secrets takes one folder.')
  try {
    if (values.show !== undefined) print(readFileSync(join(folder, values.show), 'utf8').trimEnd())
    else writeAll(folder)
    return 0
  } catch (error) {
    throw new Refusal(reasonOf(error))
  }
}

function writeAll(folder: string): void {
  const { STAFF_PASSWORD, POSTGRES_PASSWORD, POSTGRES_HOST = 'postgres:5432' } = process.env
  mkdirSync(folder, { recursive: true, mode: mode.folder })
  /** Appears whole or not at all, also over one that may not be written. */
  const write = (file: string, text: string) => {
    const place = join(folder, file)
    mkdirSync(dirname(place), { recursive: true })
    const whole = `${place}.${process.pid}`
    writeFileSync(whole, `${text}\n`, { mode: mode.file })
    renameSync(whole, place)
    print(good(`made ${file}`))
  }
  const held = (file: string) => {
    const place = join(folder, file)
    return existsSync(place) ? readFileSync(place, 'utf8').trimEnd() : ''
  }
  /** What the file holds; made where it is missing or empty. */
  const keep = (file: string, make: () => string): string => {
    if (held(file) === '') write(file, make())
    return held(file)
  }
  /** Follows what it is made of. */
  const follow = (file: string, text: string) => {
    if (held(file) !== text) write(file, text)
  }
  const postgresPassword = keep('postgres/password', () => POSTGRES_PASSWORD || random())
  if (POSTGRES_PASSWORD && POSTGRES_PASSWORD !== postgresPassword)
    print(
      bad(
        'POSTGRES_PASSWORD is not what postgres/password holds, which stays, as a Postgres keeps the password of its first start. ' +
          'If it was made with POSTGRES_PASSWORD, remove postgres/password, and run this again.',
      ),
    )
  const urlOf = (role: string, password: string, database: string) =>
    `postgres://${role}:${encodeURIComponent(password)}@${POSTGRES_HOST}/${database}`
  follow('deployment/postgres-url', urlOf('shopstream', postgresPassword, 'postgres'))
  const identity = keep('gateway/identity-secret', random)
  for (const owner of owners) {
    const url = keep(`${owner}/database-url`, () => urlOf(owner, random(), owner))
    follow(`operator/${owner}-database-url`, url)
    follow(`deployment/${owner}-database-url`, url)
    follow(`${owner}/identity-secret`, identity)
  }
  keep('user/key-encryption-secret', random)
  const staffPassword = keep('user/staff-password', () => STAFF_PASSWORD || random())
  // Unlike the others it may change at any start: the user service gives the account what it finds.
  if (STAFF_PASSWORD && STAFF_PASSWORD !== staffPassword) write('user/staff-password', STAFF_PASSWORD)
}

const random = () => randomBytes(32).toString('base64url')
