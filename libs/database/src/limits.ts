/** Limits of every session, in ms. A stopped process must not hold locks, and no statement may run for ever. */
export const sessionLimits = {
  statement_timeout: 15_000,
  lock_timeout: 5_000,
  idle_in_transaction_session_timeout: 5_000,
}
