/** Shops that were filled once and are kept in a folder: each benchmark works on a copy. */
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder, repository, runCommand, temporaryFolder } from '@shopstream/testing'
import { startShop } from '../local/shop.ts'
import { type Contents, fill } from './fill.ts'
import type { Say } from './measure.ts'

export const dataFolder = join(cacheFolder, 'bench')

/** What a shop has that has been used for long, by its orders. */
const contentsOf = (orders: number): Contents => ({ orders, products: Math.ceil(orders / 10), inboxRows: orders * 10 })

/** Topics keep their events for seven days, by the time at which they were written. */
const keptDays = 5

/** A shop with so many orders; its home is copied when it is first asked for, and has what each benchmark adds to it. */
export interface Grown {
  readonly contents: Contents
  home(): Promise<string>
  /** Removes the copy. */
  close(): Promise<void>
}

export function openGrown(orders: number, folder: string, say: Say): Grown {
  const contents = contentsOf(orders)
  let copied: Promise<string> | undefined
  return {
    contents,
    home() {
      copied ??= copyOf(contents, folder, say)
      return copied
    },
    async close() {
      const home = await copied?.catch(() => undefined)
      if (home) rmSync(home, { recursive: true, force: true })
    },
  }
}

async function copyOf(contents: Contents, folder: string, say: Say): Promise<string> {
  const kept = join(folder, `shop-of-${contents.orders}-orders-${fingerprint()}`)
  if (!existsSync(kept) || Date.now() - statSync(kept).mtimeMs > keptDays * 86_400_000) {
    for (const old of globSync(join(folder, `shop-of-${contents.orders}-orders-*`)))
      rmSync(old, { recursive: true, force: true })
    await make(contents, folder, kept, say)
  }
  const home = temporaryFolder('bench')
  await copy(kept, home)
  return home
}

/** Of all that decides how a filled shop's databases and topics look. */
function fingerprint(): string {
  const files = globSync(
    ['{services,libs}/*/src/migrations/**/*.sql', 'schemas/*.lock.json', 'tools/src/bench/{data,fill}.ts'],
    { cwd: repository },
  )
  const hash = createHash('sha256')
  for (const file of files.toSorted()) hash.update(readFileSync(join(repository, file)))
  return hash.digest('hex').slice(0, 12)
}

async function make(contents: Contents, folder: string, kept: string, say: Say): Promise<void> {
  const home = temporaryFolder('bench')
  try {
    const shop = await startShop({ home })
    try {
      await fill(shop, contents, say)
    } finally {
      await shop.stop()
    }
    mkdirSync(folder, { recursive: true })
    const making = `${kept}.${process.pid}`
    mkdirSync(making)
    await copy(home, making)
    renameSync(making, kept) // whole or not at all
    say(`kept in ${folder} for the next run`)
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

/** With owners, as Postgres insists on them; without a byte copied where the file system can share. */
async function copy(from: string, to: string): Promise<void> {
  await runCommand('cp', ['-a', `${from}/.`, to], { limitMs: 600_000 })
  chmodSync(to, 0o711)
}
