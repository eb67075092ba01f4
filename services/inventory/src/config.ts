import { dataSettings, serviceSettings, settings, Type } from '@shopstream/config'

/** The environment of the inventory service. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  /** Lists a few products with stock when there are none yet. */
  SEED_CATALOGUE: settings.flag(false),
})
