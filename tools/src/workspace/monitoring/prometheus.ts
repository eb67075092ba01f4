import { portVariable, serviceNames } from '../../local/services.ts'
import { defaultPorts, type Ports } from '../../local/settings.ts'

/** Where each service serves its metrics; the gateway apart from what clients reach. */
export const metricsAddresses = (ports: Ports) =>
  serviceNames.map((name) => `127.0.0.1:${ports[name === 'gateway' ? 'GATEWAY_METRICS_PORT' : portVariable(name)]}`)

/** As containers of docker-compose.yml reach each other. */
const composeAddresses = serviceNames.map(
  (name) => `${name}:${name === 'gateway' ? defaultPorts.GATEWAY_METRICS_PORT : 8080}`,
)

export interface Places {
  /** What is measured. */
  targets: readonly string[]
  /** Where Alertmanager is. */
  alertmanager: string
}

/** Prometheus' settings; rules.yml and alerts.yml are beside them. */
export const printPrometheus = ({
  targets,
  alertmanager,
}: Places) => `# Written by \`npm run generate\`: the services, and where each serves its metrics. docs/monitoring/prometheus.md
global:
  scrape_interval: 15s
  evaluation_interval: 15s

rule_files: [rules.yml, alerts.yml]

alerting:
  alertmanagers:
    - static_configs:
        - targets: [${alertmanager}]

scrape_configs:
  # Each metric says its service itself. With several instances of a service: name each, or let a platform name them.
  - job_name: shopstream
    static_configs:
      - targets:
${targets.map((target) => `          - ${target}`).join('\n')}
`

export const printLocalPrometheus = () =>
  printPrometheus({ targets: metricsAddresses(defaultPorts), alertmanager: '127.0.0.1:9093' })
export const printComposePrometheus = () =>
  printPrometheus({ targets: composeAddresses, alertmanager: 'alertmanager:9093' })
