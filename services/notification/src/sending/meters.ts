import type { Database } from '@shopstream/database'
import { type Logger, measureTogether, type Registry } from '@shopstream/observability'
import type { Lane, Tables } from '../tables.ts'
import type { DueFloor } from './due-floor.ts'
import { backlog } from './queries.ts'

/** Measures what is on its way whenever the metrics are read. Without the database it is left out. */
export function measureBacklog(
  database: Database<Tables>,
  floors: Record<Lane, DueFloor>,
  metrics: Registry,
  logger: Logger,
): void {
  measureTogether(
    metrics,
    () => database.transaction((tx) => backlog(tx, floors)),
    (error) => logger.debug({ err: error }, 'the mail backlog cannot be measured now'),
    [
      {
        name: 'shopstream_oldest_queued_mail_seconds',
        help: 'Age of the oldest mail of the urgent lane that is to be sent.',
        value: ({ oldestAge }) => oldestAge,
      },
      {
        name: 'shopstream_late_mail_seconds',
        help: 'For how long the first mail that is due has waited for its turn, by lane.',
        labelNames: ['lane'],
        values: ({ urgentLate, bulkLate }) => ({ urgent: urgentLate, bulk: bulkLate }),
      },
      {
        name: 'shopstream_queued_mails',
        help: 'Mails that are to be sent, by lane.',
        labelNames: ['lane'],
        values: ({ queued, bulk }) => ({ urgent: queued - bulk, bulk }),
      },
      {
        name: 'shopstream_notifications',
        help: 'Notifications on their way, by state.',
        labelNames: ['state'],
        values: ({ queued, awaiting }) => ({ queued, 'awaiting-recipient': awaiting }),
      },
    ],
  )
}
