import { accessSync, constants, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Top of the repository. */
export const repository = join(import.meta.dirname, '../../..')

const cacheBeside = join(repository, 'node_modules/.cache/shopstream')

/**
 * What may be deleted at any time and is then made again: class path, class-data archive, compiled code. Of the user's own
 * where the repository is another user's.
 */
export const cacheFolder = isWritable(cacheBeside)
  ? cacheBeside
  : join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'shopstream')

function isWritable(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true })
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}
