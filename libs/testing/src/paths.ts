import { join } from 'node:path'

/** Top of the repository. */
export const repository = join(import.meta.dirname, '../../..')

/** What may be deleted at any time and is then made again: class path, class-data archive, compiled code. */
export const cacheFolder = join(repository, 'node_modules/.cache/shopstream')
