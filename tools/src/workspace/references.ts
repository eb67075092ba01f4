import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Model } from '../schemas/wiring.ts'
import { questions } from './monitoring/questions.ts'

/** Says to editors that a page is not for them. */
const generated = '<!-- Written by `npm run generate`. -->'

const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')

/** The first comment of a command's file, without its own name in front. */
const aboutOf = (text: string) => /\/\*\*\s*(?:\* )?(?:`[^`]+`[:;]?\s*)?([^\n]*?)\s*(?:\*\/|\n)/.exec(text)?.[1] ?? ''

/** The rows `{ name: '…', about: '…' }` of a command that has others below it. */
const partsOf = (text: string) =>
  [...text.matchAll(/name: '([^']+)',\s+about: (['"])(.+?)\2,\n/g)].map(([, name = '', , about = '']) => [name, about])

/** A page with every command, as its own file says it. */
export function printCommands(root: string): string {
  const commands = globSync('tools/src/commands/*.ts', { cwd: root })
    .sort()
    .map((file) => ({ name: file.replace(/.*[\\/]|\.ts$/g, ''), text: readFileSync(join(root, file), 'utf8') }))
    .filter(({ name }) => name !== 'build')
  const callOf = (name: string) => (['start', 'test'].includes(name) ? `npm ${name}` : `npm run ${name}`)
  const rows = commands.map(({ name, text }) => [`\`${callOf(name)}\``, aboutOf(text)])
  const sections = commands
    .map(({ name, text }) => ({ name, parts: partsOf(text) }))
    .filter(({ parts }) => parts.length > 0)
    .map(({ name, parts }) => {
      const below = parts.map(([part = '', about = '']) => [`\`${callOf(name)} -- ${part}\``, about])
      return `## ${callOf(name)}\n\n${table(['command', 'what it does'], below)}`
    })
  return `# Commands

${generated}

Each takes \`-- --help\`, which says its arguments, its exit codes and what it writes. Besides: \`npm run format\`
mends style, \`npm run proofs\` is \`npm test\` with the long tests alone, \`npm run build\` bundles each service and the operators' program,
\`npx nx affected -t test\` tests what differs from branch \`main\`.

${table(['command', 'what it does'], rows)}

${sections.join('\n\n')}
`
}

/** A page with every metric, as the code that measures it says it. */
export function printMetrics(root: string): string {
  const metric = /name: '((?:shopstream|http)_[a-z_]+)',\s+help: (['"`])([^\n]+?)\2,(?:\s+labelNames: \[([^\]]*)\])?/g
  const files = globSync('{libs,services}/*/src/**/*.ts', { cwd: root }).filter((file) => !file.endsWith('.test.ts'))
  const rows = files
    .flatMap((file) =>
      [...readFileSync(join(root, file), 'utf8').matchAll(metric)].map(([, name = '', , help = '', labels = '']) => [
        `\`${name}\``,
        labels.replaceAll("'", '`'),
        help.replaceAll(/\$\{(\w+)\}/g, '$1'),
        `[${file.split(/[\\/]/)[1]}](../${file.replaceAll('\\', '/')})`,
      ]),
    )
    .sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
  return `# Metrics

${generated}

Every service serves them at \`/metrics\` in Prometheus' format, each with the label \`service\`; the gateway on \`METRICS_PORT\`. The
process's own (\`process_…\`, \`nodejs_…\`) come besides. [Alerts](../infra/prometheus/alerts.yml) are made of them, and each alert has
a [runbook](runbooks/README.md). To add one: a \`Gauge\`, \`Counter\` or \`Histogram\` of \`@shopstream/observability\`, with
\`registers: [metrics]\`, where the thing happens; then \`npm run generate\`. In a handler: \`signal(tx, name, what)\`, and
\`database.on(name, …)\` counts once that is committed, as [order](../services/order/src/meters.ts) does.

${table(['metric', 'labels', 'what it says', 'where'], rows)}

## Questions and queries

The [dashboards](../infra/grafana) ask them over time; [monitoring](monitoring/prometheus.md) says how to start a Prometheus. A counter
begins again at 0 with its process, which \`increase\` and \`rate\` know. They do not see the first value of a series: those of
\`http_request_duration_seconds\` begin with the first request of their route and status, so the first 5xx of a route since a start (what
came until the next scrape) is in no alert. How orders are decided begins at 0. Neither do they know what was before Prometheus first
scraped: start it, wait half a minute, then play the demo.

They extend what they saw to the whole hour, so of few events the answer is a fraction, and may differ between who made and who handled
the same ones. For few compare the counters themselves, \`sum by (type) (shopstream_events_produced_total)\`. Whether something is missing
is said by what waits, outbox and backlog, and by events' age; \`npm run shop -- verify\` proves it.

${table(
  ['question', 'query'],
  questions.map(([question, query]) => [question, `\`${query}\``]),
)}
`
}

/** A page with one picture: the services, the topics, and who writes and reads which. */
export function printArchitecture({ wiring, topics }: Pick<Model, 'wiring' | 'topics'>): string {
  const id = (name: string) => name.replaceAll(/[^a-z0-9]/g, '_')
  const shown = topics.filter(({ events }) => events.some((event) => event !== 'SchemaRegistered'))
  const writes = (events: readonly string[], service: string) =>
    wiring.some((one) => one.service === service && one.produces.some((event) => events.includes(event)))
  const reads = (events: readonly string[], service: string) =>
    wiring.some((one) => one.service === service && one.consumes.some(({ event }) => events.includes(event)))
  const services = wiring.map(({ service }) => service)
  const arrows = shown.flatMap(({ name, events }) => [
    ...services.filter((service) => writes(events, service)).map((service) => `  ${service} --> ${id(name)}`),
    ...services.filter((service) => reads(events, service)).map((service) => `  ${id(name)} -.-> ${service}`),
  ])
  const topicsOf = (service: string, does: typeof writes) =>
    shown.flatMap(({ name, events }) => (does(events, service) ? [`\`${name}\``] : [])).join(', ')
  const rows = services.map((service) => [
    `[${service}](../services/${service}/README.md)`,
    topicsOf(service, writes),
    topicsOf(service, reads),
  ])
  return `# Architecture

${generated}

Clients speak to the gateway, the gateway to each service by HTTP; services speak to each other through topics alone. Each has its
own Postgres database, and nobody reads another's. A full arrow is written, a dotted one is read.

\`\`\`mermaid
flowchart LR
  clients([clients]) --> gateway
${services.map((service) => `  gateway --> ${service}`).join('\n')}
${shown.map(({ name }) => `  ${id(name)}[/${name}/]`).join('\n')}
${arrows.join('\n')}
\`\`\`

${table(['service', 'writes', 'reads'], rows)}

How an event travels, in the order in which it happens:

1. A request, or a message, changes rows of one service. The event is a row of \`outbox\` in the same transaction
   (\`libs/messaging/src/outbox\`).
2. The relay of that service, of which one instance leads, publishes the rows in their order and deletes them.
3. The consumer of each reading service takes a chunk of messages and, in one transaction, writes which it has seen (\`inbox\`),
   what they change, and the events that follow (\`libs/messaging/src/consumer\`).
4. A message that fails for its own sake is parked with its key (\`libs/messaging/src/parked\`): later ones of the key wait behind it,
   all others go on. The retrier tries it again; in the end it is dead, copied to the dead-letter topic, and waits for a person.

## One order, file by file

1. The gateway passes \`POST /v1/orders\` on: [\`forwarding.ts\`](../services/gateway/src/forwarding.ts).
2. The order service checks token, body and idempotency key ([\`libs/http\`](../libs/http/src/request.ts)), takes the order with others
   that come at the same time ([\`effect-group.ts\`](../libs/http/src/effect-group.ts)), and decides:
   [\`routes.ts\`](../services/order/src/routes.ts), [\`placing/place.ts\`](../services/order/src/placing/place.ts),
   [\`placing/decide.ts\`](../services/order/src/placing/decide.ts), [\`life-cycle.ts\`](../services/order/src/life-cycle.ts).
3. The row of the order and \`OrderPlaced\` commit together ([\`orders.ts\`](../services/order/src/orders.ts),
   [\`outbox.ts\`](../libs/messaging/src/outbox/outbox.ts)); the relay publishes it ([\`relay.ts\`](../libs/messaging/src/outbox/relay.ts)).
4. Inventory's consumer takes it ([\`consumer.ts\`](../libs/messaging/src/consumer/consumer.ts),
   [\`effects.ts\`](../libs/messaging/src/consumer/effects.ts)), locks the stock and reserves all lines or none:
   [\`consumes.ts\`](../services/inventory/src/consumes.ts), [\`reserving/handle.ts\`](../services/inventory/src/reserving/handle.ts),
   [\`reserving/decide.ts\`](../services/inventory/src/reserving/decide.ts), [\`stock/queries.ts\`](../services/inventory/src/stock/queries.ts).
   Its table refuses to reserve more than there is, whatever the code does.
5. \`StockReserved\` comes back: [\`consumes.ts\`](../services/order/src/consumes.ts),
   [\`reserving/handle.ts\`](../services/order/src/reserving/handle.ts) confirm the order; who waits for the answer gets it
   ([\`prefer-wait.ts\`](../services/order/src/prefer-wait.ts)).
6. \`OrderConfirmed\` becomes a mail: [\`causes/order-mails.ts\`](../services/notification/src/causes/order-mails.ts), a row by
   [\`notifications/queries.ts\`](../services/notification/src/notifications/queries.ts); the sender claims it
   ([\`sending/sender.ts\`](../services/notification/src/sending/sender.ts)), and it is handed to the SMTP server
   ([\`delivery.ts\`](../services/notification/src/sending/delivery.ts), [\`smtp.ts\`](../services/notification/src/sending/smtp.ts)).

[events.md](events.md) has each event with its fields, [saga.md](saga.md) the states of an order, [adr/](adr) the reasons.
`
}
