/** What a reservation may be, at rest, by the status of its order: with nothing under way between the services. */
export const statesAtRest = {
  pending: [],
  confirmed: ['reserved'],
  rejected: ['rejected'],
  shipped: ['sold'],
  delivered: ['sold'],
  cancelled: ['released', 'rejected'],
} as const

/** And once inventory alone has handled all of the order's events: a pending order may not know of it yet. */
export const statesThatFit = { ...statesAtRest, pending: ['reserved', 'rejected'] } as const
