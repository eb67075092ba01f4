import { type Dashboard, one, perMinute, perMinuteIfAny, quantile } from './panels.ts'

/** As rules.yml has it: compacted topics are read from their start by who is new. */
const ages = 'shopstream_event_age_seconds_bucket{topic!~"shop.(schema|signing-key|product|user).v1"}'

export const pipeline: Dashboard = {
  name: 'event-pipeline',
  title: 'The event pipeline',
  rows: [
    {
      title: 'What becomes of events',
      panels: [
        {
          title: 'Events produced, per minute',
          description: 'Decided and committed, by type.',
          unit: 'cpm',
          stacked: true,
          queries: one(perMinuteIfAny('type', 'shopstream_events_produced_total'), '{{type}}'),
        },
        {
          title: 'Events published, per minute',
          description: 'Acknowledged by Kafka, by type: the same as are produced.',
          unit: 'cpm',
          stacked: true,
          queries: one(perMinuteIfAny('type', 'shopstream_outbox_published_total'), '{{type}}'),
        },
        {
          title: 'Events handled, per minute',
          description: 'Their effect is committed, by service and type.',
          unit: 'cpm',
          stacked: true,
          queries: one(
            perMinuteIfAny('service, type', 'shopstream_events_consumed_total{outcome="handled"}'),
            '{{service}} {{type}}',
          ),
        },
        {
          title: 'Repeated, parked and dead events, per minute',
          description:
            'Repeated ones had taken effect before and were dropped: some come after a restart. Dead ones wait for a person.',
          unit: 'cpm',
          queries: one(
            perMinute('service, outcome', 'shopstream_events_consumed_total{outcome!="handled"}'),
            '{{service}} {{outcome}}',
          ),
        },
      ],
    },
    {
      title: 'Does it keep up?',
      panels: [
        {
          title: 'Age of 99 of 100 events when they took effect, by service',
          description:
            'From the decision to the commit of what follows; over 10 s it is late. A point is an event with its trace.',
          unit: 's',
          exemplars: true,
          queries: one(quantile(0.99, 'service, le', ages), '{{service}}'),
        },
        {
          title: 'Age of half of the events, by service and type',
          description: 'Which type is slow.',
          unit: 's',
          queries: one(quantile(0.5, 'service, type, le', ages), '{{service}} {{type}}'),
        },
        {
          title: 'Messages that wait for a service, by topic',
          description: 'Measured each 10 s.',
          unit: 'short',
          queries: one('max by (service, topic) (shopstream_consumer_lag_messages)', '{{service}} {{topic}}'),
        },
        {
          title: 'Age of the oldest message that waits, by topic',
          description: 'Over 300 s BacklogTooOld is on.',
          unit: 's',
          queries: one('max by (service, topic) (shopstream_consumer_backlog_seconds)', '{{service}} {{topic}}'),
        },
      ],
    },
    {
      title: 'Outbox and relay',
      panels: [
        {
          title: 'Events in the outbox',
          description: 'They wait for Kafka; counted up to 10,000.',
          unit: 'short',
          queries: one('max by (service) (shopstream_outbox_rows)', '{{service}}'),
        },
        {
          title: 'Age of the oldest event in the outbox',
          description: 'Over 120 s OutboxLate is on.',
          unit: 's',
          queries: one('max by (service) (shopstream_outbox_oldest_seconds)', '{{service}}'),
        },
        {
          title: 'Sending a batch to Kafka',
          description: 'Until the brokers have acknowledged it: 99 of 100.',
          unit: 's',
          queries: one(quantile(0.99, 'service, le', 'shopstream_outbox_sending_seconds_bucket'), '{{service}}'),
        },
        {
          title: 'Instances that publish',
          description: 'One of each service. 0: RelayWithoutLeader.',
          unit: 'short',
          stat: true,
          queries: one('sum by (service) (shopstream_relay_leader)', '{{service}}'),
        },
      ],
    },
    {
      title: 'Handlers',
      panels: [
        {
          title: 'Duration of 95 of 100 calls of a handler',
          description: 'For all messages that it gets together, by service and type.',
          unit: 's',
          queries: one(
            quantile(0.95, 'service, type, le', 'shopstream_event_handling_seconds_bucket'),
            '{{service}} {{type}}',
          ),
        },
        {
          title: 'Messages that a handler gets together',
          description: 'The mean: near 1 at rest, more under load.',
          unit: 'short',
          queries: one(
            'sum by (service, type) (rate(shopstream_event_batch_messages_sum[$__rate_interval]))\n  / sum by (service, type) (rate(shopstream_event_batch_messages_count[$__rate_interval]))',
            '{{service}} {{type}}',
          ),
        },
      ],
    },
    {
      title: 'Trouble',
      panels: [
        {
          title: 'Parked messages',
          description:
            'Waiting ones are tried again; dead ones wait for a person: `npm run shop -- dead-letters list`.',
          unit: 'short',
          queries: one('max by (service, state) (shopstream_parked_messages)', '{{service}} {{state}}'),
        },
        {
          title: 'Refused events and blocked partitions',
          description: 'What Kafka refuses for good, and what cannot be read: each waits for a person.',
          unit: 'short',
          queries: [
            { expr: 'max by (service) (shopstream_outbox_refused)', legend: '{{service}} refused' },
            { expr: 'sum by (service) (shopstream_consumer_blocked_partitions)', legend: '{{service}} blocked' },
          ],
        },
        {
          title: 'Since the last answer of Kafka',
          description:
            'Of each instance that consumes, when it was last asked: some 15 s at the most. Over 60 s ConsumerNotFetching is on.',
          unit: 's',
          queries: one('time() - (shopstream_consumer_last_fetch_timestamp_seconds > 0)', '{{service}} {{instance}}'),
        },
        {
          title: 'Consumers built anew',
          description: 'In a quarter of an hour; one or two are a restart of a broker.',
          unit: 'short',
          queries: one('sum by (service) (increase(shopstream_consumer_rebuilt_total[15m]))', '{{service}}'),
        },
      ],
    },
  ],
}
