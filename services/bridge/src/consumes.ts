import { signingKeyConsumption } from '@shopstream/http'

/** What the service itself goes by. What its bridges hand on is in forwards.ts, and goes by groups of their own. */
export const consumes = [signingKeyConsumption]
