import { dataSettings, type Static, serviceSettings, settings, Type } from '@shopstream/config'
import { readBridges } from './bridges.ts'

/** The environment of the bridge service; each row of its table names variables of its own. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  BRIDGES_FILE: Type.Optional(
    settings.list('files of bridges, as YAML, in place of src/bridges.ts', { example: '/etc/shopstream/bridges.yaml' }),
  ),
})

export type Config = Static<typeof configSchema>

/** Throws a ConfigError with everything that is wrong in the table, and with each URL that it wants and does not get. */
export const checkConfig = (config: Config, env?: NodeJS.ProcessEnv) => readBridges(config, env)
