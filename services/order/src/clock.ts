import { sql, type Transaction } from '@shopstream/database'

/**
 * The time of the order database, to be asked for once the orders are locked. Every time of an order comes from here,
 * its deadline first: the sweeper compares that with this clock, so a process whose own clock is an hour off cancels no
 * order early and forgets none, and the history of an order that several instances changed runs forward.
 */
export async function databaseTime(tx: Transaction): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(tx)
  return (rows[0] as { now: Date }).now
}
