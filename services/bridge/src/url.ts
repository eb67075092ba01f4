import { ConfigError, readConfig, settings, Type } from '@shopstream/config'
import type { Target } from './targets/target.ts'

/** The URL that a variable, or the file that it names, holds; else what is wrong with it, in words without the URL. */
export function urlOf(
  variable: string,
  { protocols, usual, urlProblem }: Target,
  env: NodeJS.ProcessEnv,
): { url: string } | { problems: readonly string[] } {
  const schema = Type.Object({
    [variable]: settings.url('where a bridge leads', {
      protocols: [...protocols],
      example: exampleOf({ protocols, usual }),
    }),
  })
  try {
    const url = readConfig(schema, env)[variable] as string
    const read = new URL(url)
    const problem = isDecodable(read) ? urlProblem?.(read) : 'has a % that is none: write %25 for it'
    return problem === undefined ? { url } : { problems: [`${variable} ${problem}`] }
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems }
    throw error
  }
}

/** A client would throw at each attempt to connect, or log in with another password. */
function isDecodable({ username, password, pathname }: URL): boolean {
  try {
    return [username, password, pathname].every((part) => typeof decodeURIComponent(part) === 'string')
  } catch {
    return false
  }
}

/** With the port that the scheme has by itself. */
export const exampleOf = ({ protocols, usual }: Pick<Target, 'protocols' | 'usual'>) =>
  `${protocols[0]}://user:password@127.0.0.1:${usual.ports[0]}`

/** The same for every way to write it, whoever logs in there; not for two names of one machine. */
export function serverOf(url: string, { protocols, usual }: Pick<Target, 'protocols' | 'usual'>): string {
  const { protocol, hostname, port, pathname } = new URL(url)
  const usualPort = usual.ports[protocols.indexOf(protocol.slice(0, -1))]
  return `${hostname.toLowerCase()}:${port || usualPort}/${decodeURIComponent(pathname.slice(1)) || usual.path}`
}
