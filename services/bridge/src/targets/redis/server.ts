import type { Logger } from '@shopstream/observability'
import type { Open } from './connection.ts'

/** Where a user may not ask: what Redis has by itself. */
const usualMaxBytes = 536_870_912

/** Looks at the server of each connection, once: how large a text may be, and whether it may forget what it has taken. */
export function createLook(logger: Logger) {
  const looks = new WeakMap<Open, Promise<number>>()
  return (open: Open): Promise<number> => {
    const look = looks.get(open) ?? lookAt(open, logger)
    looks.set(open, look)
    return look
  }
}

async function lookAt(open: Open, logger: Logger): Promise<number> {
  const info = await open.ask<string>(['INFO']).catch(() => '')
  const told = new Map(info.split('\r\n').map((line) => line.split(':', 2) as [string, string]))
  if (/^allkeys/.test(told.get('maxmemory_policy') ?? '') && told.get('maxmemory') !== '0')
    logger.warn('Redis drops whole streams when its memory is full; set maxmemory-policy noeviction')
  // Redis up to 8.4 and Valkey up to 9.0 load scripts of several writes in the name of the default user (valkey#3983).
  const may = await open.ask<string>(['ACL', 'DRYRUN', 'default', 'XADD', 'shop', '*', 'id', '1']).catch(() => 'OK')
  if (told.get('aof_enabled') === '1' && may !== 'OK')
    logger.warn(
      'the default user of Redis has no rights, in whose name it loads its file: a restart may lose events that it has ' +
        'taken; it can stay off, but needs rights: ACL SETUSER default off resetpass ~* &* +@all',
    )
  const settings = await settingsOf(open, logger)
  const early = confirmsEarly(settings)
  if (early) logger.warn(early)
  return Number(settings.get('proto-max-bulk-len') ?? usualMaxBytes)
}

const asked = ['appendonly', 'appendfsync', 'proto-max-bulk-len']

/** None where the user may not ask, as with servers that somebody else runs. */
async function settingsOf(open: Open, logger: Logger): Promise<Map<string, string>> {
  const answer = await open.ask<string[]>(['CONFIG', 'GET', ...asked]).catch((error: Error) => {
    logger.debug({ reason: error.message }, 'Redis does not say when what it confirms is on its disk')
    return [] as string[]
  })
  return new Map(
    asked.flatMap((name) => (answer.includes(name) ? [[name, answer[answer.indexOf(name) + 1] ?? '']] : [])),
  )
}

/** In words, what is lost of what the server has confirmed, and when. */
function confirmsEarly(settings: ReadonlyMap<string, string>): string | undefined {
  const [appendonly, appendfsync] = [settings.get('appendonly'), settings.get('appendfsync')]
  const remedy = 'set appendonly yes and appendfsync always where none may be lost'
  if (appendonly === 'no') return `Redis has appendonly no: a restart loses events that it has confirmed; ${remedy}`
  if (appendfsync !== undefined && appendfsync !== 'always')
    return (
      `Redis has appendfsync ${appendfsync}: it confirms events before they are on its disk, and a kill -9, or the end of ` +
      `its machine, loses the last of them; ${remedy}`
    )
}
