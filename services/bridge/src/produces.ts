import { producer } from '@shopstream/messaging'

/** The events that others may bring in; which of them a source brings is in its row of the table. */
export const produces = producer('bridge', ['PointsAwarded'])

/** What of their data they are keyed by: their subject has to say the same. */
export const keyFields = { PointsAwarded: 'userId' } as const satisfies Record<(typeof produces.events)[number], string>
