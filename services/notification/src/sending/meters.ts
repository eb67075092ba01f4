import type { Database } from '@shopstream/database'
import { Gauge, type Logger, type Registry } from '@shopstream/observability'
import type { Tables } from '../tables.ts'
import { backlog } from './queries.ts'

/** Measures what is on its way whenever the metrics are read. Without the database they are left out. */
export function measureBacklog(database: Database<Tables>, metrics: Registry, logger: Logger): void {
  const oldest = new Gauge({
    name: 'shopstream_oldest_queued_mail_seconds',
    help: 'Age of the oldest mail of the urgent lane that is to be sent.',
    registers: [metrics],
  })
  const lanes = new Gauge({
    name: 'shopstream_queued_mails',
    help: 'Mails that are to be sent, by lane.',
    labelNames: ['lane'],
    registers: [metrics],
  })
  new Gauge({
    name: 'shopstream_notifications',
    help: 'Notifications on their way, by state.',
    labelNames: ['state'],
    registers: [metrics],
    async collect() {
      try {
        const { queued, bulk, awaiting, oldestAge } = await backlog(database.query)
        this.set({ state: 'queued' }, queued)
        this.set({ state: 'awaiting-recipient' }, awaiting)
        lanes.set({ lane: 'urgent' }, queued - bulk)
        lanes.set({ lane: 'bulk' }, bulk)
        oldest.set(oldestAge)
      } catch (error) {
        logger.debug({ err: error }, 'the mail backlog cannot be measured now')
        this.reset()
        lanes.reset()
        oldest.remove()
      }
    },
  })
}
