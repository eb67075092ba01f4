import { dataSettings, type Static, serviceSettings, settings, Type } from '@shopstream/config'
import { readBridges } from './bridges.ts'
import { targets } from './targets/index.ts'
import { exampleOf } from './url.ts'

/** Rows may name other variables; these are known to what deploys the service. */
const usualUrls = Object.fromEntries(
  Object.entries(targets).map(([kind, one]) => [
    `${kind.toUpperCase()}_URL`,
    Type.Optional(
      settings.url(`where bridges to ${kind} lead, for rows that name this variable`, {
        protocols: [...one.protocols],
        example: exampleOf(one),
      }),
    ),
  ]),
)

/** The environment of the bridge service; each row of its table names variables of its own. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  BRIDGES: Type.Optional(settings.text('bridges as YAML or JSON, in place of a file', { example: '[]' })),
  BRIDGES_FILE: Type.Optional(
    settings.list('files of bridges, as YAML, in place of src/bridges.ts', { example: '/etc/shopstream/bridges.yaml' }),
  ),
  ...usualUrls,
})

export type Config = Static<typeof configSchema>

/** Throws a ConfigError with everything that is wrong in the table, and with each URL that it wants and does not get. */
export const checkConfig = (config: Config, env?: NodeJS.ProcessEnv) => readBridges(config, env)
