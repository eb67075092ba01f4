import { type Dashboard, one, perMinute, quantile, quantiles } from './panels.ts'

const clients = 'service="gateway",route=~"/v1/.*"'

export const shop: Dashboard = {
  name: 'shop',
  title: 'The shop',
  rows: [
    {
      title: 'Orders',
      panels: [
        {
          title: 'Orders decided in this time',
          description:
            'By outcome; cancelled by their buyers before they were decided; expired: nobody decided them in time.',
          unit: 'short',
          stat: true,
          queries: one(
            'round(sum by (outcome) (increase(shopstream_order_decision_seconds_count[$__range])))',
            '{{outcome}}',
          ),
        },
        {
          title: 'Orders by outcome, per minute',
          description: 'Rejected: there were not enough pieces. Expired: nobody answered in time.',
          unit: 'cpm',
          stacked: true,
          queries: one(perMinute('outcome', 'shopstream_order_decision_seconds_count'), '{{outcome}}'),
        },
        {
          title: 'Time to the decision',
          description: 'From when an order was placed. Below a second as a rule.',
          unit: 's',
          queries: quantiles('shopstream_order_decision_seconds_bucket'),
        },
        {
          title: 'Orders that wait',
          description: 'Pending, and of these past their deadline: those are cancelled within 30 s.',
          unit: 'short',
          queries: [
            { expr: 'max(shopstream_orders_pending)', legend: 'pending' },
            { expr: 'max(shopstream_orders_overdue)', legend: 'overdue' },
          ],
        },
        {
          title: 'Reservations refused for lack of stock, per minute',
          description: 'Attempts to sell more than there is: each was refused.',
          unit: 'cpm',
          queries: [
            {
              expr: perMinute('type', 'shopstream_events_produced_total{type=~"StockReserved|StockRejected"}'),
              legend: '{{type}}',
            },
          ],
        },
        {
          title: 'Registrations and shipments, per minute',
          description: 'Accounts made, orders sent off and delivered.',
          unit: 'cpm',
          queries: one(
            perMinute('type', 'shopstream_events_produced_total{type=~"UserRegistered|OrderShipped|OrderDelivered"}'),
            '{{type}}',
          ),
        },
      ],
    },
    {
      title: 'Mails',
      panels: [
        {
          title: 'Attempts to send a mail, per minute',
          description: 'By kind and what became of them.',
          unit: 'cpm',
          queries: one(perMinute('kind, outcome', 'shopstream_mail_attempts_total'), '{{kind}} {{outcome}}'),
        },
        {
          title: 'Mails that wait, by lane',
          description: 'Mails of mailings are bulk, and do not hold up the others.',
          unit: 'short',
          queries: one('max by (lane) (shopstream_queued_mails)', '{{lane}}'),
        },
      ],
    },
    {
      title: 'Requests of clients',
      panels: [
        {
          title: 'Requests by route, per minute',
          description: 'What the gateway was asked.',
          unit: 'cpm',
          queries: one(
            perMinute('method, route', `http_request_duration_seconds_count{${clients}}`),
            '{{method}} {{route}}',
          ),
        },
        {
          title: 'Requests that failed, per minute',
          description: 'Answered with 5xx: the shop is at fault.',
          unit: 'cpm',
          queries: one(
            `${perMinute('route, status', `http_request_duration_seconds_count{${clients},status=~"5.."}`)}\n  or label_replace(vector(0), "status", "none", "", "")`,
            '{{route}} {{status}}',
          ),
        },
        {
          title: 'Duration of 95 of 100 requests, by route',
          description: 'With `Prefer: wait` an order is answered when it is decided.',
          unit: 's',
          exemplars: true,
          queries: one(
            quantile(0.95, 'method, route, le', `http_request_duration_seconds_bucket{${clients}}`),
            '{{method}} {{route}}',
          ),
        },
        {
          title: 'Objectives, in the last hour',
          description:
            'Events that took effect after more than 10 s (at most 1 %), and requests that failed (at most 0.1 %).',
          unit: 'percentunit',
          queries: [
            { expr: 'service:event_age_late:ratio_rate1h', legend: 'late events, {{service}}' },
            {
              expr: 'service:http_requests_failed:ratio_rate1h or 0 * service:http_requests:rate5m',
              legend: 'failed requests',
            },
          ],
        },
      ],
    },
  ],
}
