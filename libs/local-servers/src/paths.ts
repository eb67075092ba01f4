import { accessSync, constants, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** Top of the repository. */
export const repository = join(import.meta.dirname, '../../..')

/** The user's own where the repository is another user's, and the state's where that user may write to no home either. */
const cachePlaces = [
  join(repository, 'node_modules/.cache'),
  process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
  ...(process.env.SHOPSTREAM_HOME ? [join(resolve(process.env.SHOPSTREAM_HOME), 'cache')] : []),
].map((place) => join(place, 'shopstream'))

/** What may be deleted at any time and is then made again: class path, class-data archive, compiled code. */
export const cacheFolder = cachePlaces.find(isWritable) ?? (cachePlaces[0] as string)

function isWritable(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true })
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}
