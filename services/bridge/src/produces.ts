import { producer } from '@shopstream/messaging'

/** The events that others may bring in; which of them a source brings is in its row of the table. */
export const produces = producer('bridge', ['PointsAwarded'])
