import { dataSettings, serviceSettings, settings, Type } from '@shopstream/config'

/** The environment of the order service. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  /** How long an order may wait for its reservation before it is cancelled: longer than any outage that heals by itself. */
  RESERVATION_DEADLINE_SECONDS: settings.integer(900, { min: 1, max: 604_800 }),
})
