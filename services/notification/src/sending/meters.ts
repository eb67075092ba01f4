import type { Database } from '@shopstream/database'
import { Gauge, type Logger, type Registry } from '@shopstream/observability'
import type { Tables } from '../tables.ts'
import { backlog } from './queries.ts'

/** Measures what is on its way whenever the metrics are read. Without the database they are left out. */
export function measureBacklog(database: Database<Tables>, metrics: Registry, logger: Logger): void {
  const oldest = new Gauge({
    name: 'shopstream_oldest_queued_mail_seconds',
    help: 'Age of the oldest mail that is to be sent.',
    registers: [metrics],
  })
  new Gauge({
    name: 'shopstream_notifications',
    help: 'Notifications on their way, by state.',
    labelNames: ['state'],
    registers: [metrics],
    async collect() {
      try {
        const { queued, awaiting, oldestAge } = await backlog(database.query)
        this.set({ state: 'queued' }, queued)
        this.set({ state: 'awaiting-recipient' }, awaiting)
        oldest.set(oldestAge)
      } catch (error) {
        logger.debug({ err: error }, 'the mail backlog cannot be measured now')
        this.reset()
        oldest.remove()
      }
    },
  })
}
