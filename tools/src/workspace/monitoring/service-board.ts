import type { ServiceName } from '../../local/services.ts'
import { type Dashboard, one, type Panel, perMinute, perMinuteIfAny, quantile } from './panels.ts'

/** What one service alone measures. */
const ownPanels: Partial<Record<ServiceName, Panel[]>> = {
  user: [
    {
      title: 'Logins and registrations that wait',
      description: 'For their password to be hashed, which takes a processor some 0.1 s each.',
      unit: 'short',
      queries: one('shopstream_passwords_waiting', '{{instance}}'),
    },
    {
      title: 'Until the last signing key expires',
      description: 'Under 35 minutes SigningKeyExpires is on.',
      unit: 's',
      stat: true,
      queries: one('max(shopstream_signing_key_expiry_timestamp_seconds) - time()', 'left'),
    },
  ],
  bridge: [
    {
      title: 'For how long brokers have been away, by bridge',
      description: 'Gone, full, or refusing everything. Over 300 s BridgeBrokerAway is on.',
      unit: 's',
      queries: one('max by (bridge) (shopstream_bridge_away_seconds)', '{{bridge}}'),
    },
    {
      title: 'How far bridges are behind',
      description: 'The age of the oldest event that is not handed on. Over 300 s BridgeBehind is on.',
      unit: 's',
      queries: one('max by (bridge) (shopstream_bridge_backlog_seconds)', '{{bridge}}'),
    },
    {
      title: 'Events handed on, per minute',
      description: 'By bridge and what became of them; skipped are those that came from its broker.',
      unit: 'cpm',
      stacked: true,
      queries: one(perMinuteIfAny('bridge, outcome', 'shopstream_bridge_sent_total'), '{{bridge}} {{outcome}}'),
    },
    {
      title: 'Messages that came in, per minute',
      description: 'By bridge and what became of them; dead are those that do not fit.',
      unit: 'cpm',
      stacked: true,
      queries: one(perMinuteIfAny('bridge, outcome', 'shopstream_bridge_received_total'), '{{bridge}} {{outcome}}'),
    },
  ],
  notification: [
    {
      title: 'Mails on their way',
      description: 'Queued, or waiting for notification to hear of their recipient.',
      unit: 'short',
      queries: one('max by (state) (shopstream_notifications)', '{{state}}'),
    },
    {
      title: 'For how long the first mail that is due has waited',
      description: 'By lane; for its turn, or for the SMTP server.',
      unit: 's',
      queries: one('max by (lane) (shopstream_late_mail_seconds)', '{{lane}}'),
    },
  ],
}

/** The user service consumes nothing; the bridge hands on, and learns of a new signing key each 30 days. */
const consumesEvents = (service: ServiceName) => service !== 'user' && service !== 'bridge'

const eventPanels = (service: ServiceName): Panel[] => [
  {
    title: 'Events produced, per minute',
    description: 'Decided and committed, by type.',
    unit: 'cpm',
    stacked: true,
    queries: one(perMinuteIfAny('type', `shopstream_events_produced_total{service="${service}"}`), '{{type}}'),
  },
  ...(consumesEvents(service)
    ? [
        {
          title: 'Events consumed, per minute',
          description: 'By type and what became of them.',
          unit: 'cpm' as const,
          stacked: true as const,
          queries: one(
            perMinuteIfAny('type, outcome', `shopstream_events_consumed_total{service="${service}"}`),
            '{{type}} {{outcome}}',
          ),
        },
        {
          title: 'Messages that wait, by topic',
          description: 'That its group has not handled yet.',
          unit: 'short' as const,
          queries: one(`max by (topic) (shopstream_consumer_lag_messages{service="${service}"})`, '{{topic}}'),
        },
      ]
    : []),
  {
    title: 'Connections to the database',
    description: 'By pool and state. Waiting is work that has none: for five minutes, and DatabasePoolExhausted is on.',
    unit: 'short',
    queries: one(`sum by (pool, state) (shopstream_database_connections{service="${service}"})`, '{{pool}} {{state}}'),
  },
]

/** What every service has, and what is its own. */
export function serviceBoard(service: ServiceName): Dashboard {
  const requests = `service="${service}",route!~"/(livez|readyz|metrics)"`
  return {
    name: service,
    title: `Service: ${service}`,
    rows: [
      {
        title: 'Requests',
        panels: [
          {
            title: 'Requests by route and status, per minute',
            description: 'Probes aside.',
            unit: 'cpm',
            queries: one(
              perMinute('method, route, status', `http_request_duration_seconds_count{${requests}}`),
              '{{method}} {{route}} {{status}}',
            ),
          },
          {
            title: 'Duration of 95 of 100 requests, by route',
            description:
              'From the first byte of the request to the last of its answer. A point is a request with its trace.',
            unit: 's',
            exemplars: true,
            queries: one(
              quantile(0.95, 'method, route, le', `http_request_duration_seconds_bucket{${requests}}`),
              '{{method}} {{route}}',
            ),
          },
          {
            title: 'Requests in hand',
            description: 'A process holds a thousand, and refuses more with 503.',
            unit: 'short',
            queries: one(`http_requests_in_hand{service="${service}"}`, '{{instance}}'),
          },
        ],
      },
      ...(service === 'gateway' ? [] : [{ title: 'Events and database', panels: eventPanels(service) }]),
      ...(ownPanels[service] ? [{ title: 'Its own', panels: ownPanels[service] }] : []),
      {
        title: 'Process',
        panels: [
          {
            title: 'Event loop: 99 of 100 turns',
            description: 'At rest 0.01 s. Over 0.5 s for five minutes EventLoopStalls is on.',
            unit: 's',
            queries: one(`nodejs_eventloop_lag_p99_seconds{service="${service}"}`, '{{instance}}'),
          },
          {
            title: 'Processors in use',
            description: '100 % is one processor; JavaScript takes one at most.',
            unit: 'percentunit',
            queries: one(`rate(process_cpu_seconds_total{service="${service}"}[$__rate_interval])`, '{{instance}}'),
          },
          {
            title: 'Memory',
            description: 'Of the process, and what JavaScript uses of it.',
            unit: 'bytes',
            queries: [
              { expr: `process_resident_memory_bytes{service="${service}"}`, legend: '{{instance}} process' },
              { expr: `nodejs_heap_size_used_bytes{service="${service}"}`, legend: '{{instance}} heap' },
            ],
          },
        ],
      },
    ],
  }
}
