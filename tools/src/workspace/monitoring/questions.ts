/** What somebody asks of the metrics, and the query that answers it; of the last hour, where it counts. */
export const questions: readonly [question: string, query: string][] = [
  ['Is each event made?', 'sum by (service, type) (increase(shopstream_events_produced_total[1h]))'],
  ['Has Kafka each that was made? What waits for it:', 'max by (service) (shopstream_outbox_rows)'],
  ['What became of it, where?', 'sum by (service, type, outcome) (increase(shopstream_events_consumed_total[1h]))'],
  [
    'How old is an event when it takes effect?',
    'histogram_quantile(0.99, sum by (service, type, le) (rate(shopstream_event_age_seconds_bucket[1h])))',
  ],
  [
    'Does processing keep up? What is away measures nothing: ServiceAway tells of it',
    'max by (service, topic) (shopstream_consumer_backlog_seconds)',
  ],
  [
    'Where are errors: what failed, and is tried again or dead?',
    'sum by (service, type, outcome) (increase(shopstream_events_consumed_total{outcome=~"parked|dead"}[1h]))',
  ],
  ['What waits for a person?', 'max by (service) (shopstream_parked_messages{state="dead"})'],
  ['How were orders decided?', 'sum by (outcome) (increase(shopstream_order_decision_seconds_count[1h]))'],
  [
    'How often was there an attempt to sell more than there is? Each was refused',
    'sum(increase(shopstream_events_produced_total{type="StockRejected"}[1h]))',
  ],
  ['Which mails went out, which did not?', 'sum by (kind, outcome) (increase(shopstream_mail_attempts_total[1h]))'],
  [
    'What went to brokers of other kinds, and what of it is parked?',
    'sum by (bridge, outcome) (increase(shopstream_bridge_sent_total[1h]))',
  ],
  [
    'For how long has each of these brokers been away? 0: it is there',
    'max by (bridge) (shopstream_bridge_away_seconds)',
  ],
  [
    'How many requests of clients failed?',
    'sum by (service) (increase(http_requests_failed_total{service="gateway"}[1h]))',
  ],
  [
    'What repeats were dropped?',
    'sum by (service) (increase(shopstream_events_consumed_total{outcome="repeated"}[1h]))',
  ],
]
