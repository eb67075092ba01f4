import { ConfigError, readConfig, settings, Type } from '@shopstream/config'
import type { Target } from './targets/target.ts'

/** The URL that a variable, or the file that it names, holds; else what is wrong with it, in words without the URL. */
export function urlOf(
  variable: string,
  { protocols }: Target,
  env: NodeJS.ProcessEnv,
): { url: string } | { problems: readonly string[] } {
  const schema = Type.Object({
    [variable]: settings.url('where a bridge leads', {
      protocols: [...protocols],
      example: `${protocols[0]}://user:password@127.0.0.1`,
    }),
  })
  try {
    return { url: readConfig(schema, env)[variable] as string }
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems }
    throw error
  }
}

/** Whoever logs in there, and by whichever variable. */
export const serverOf = (url: string) => {
  const { host, pathname } = new URL(url)
  return `${host}${pathname}`
}
