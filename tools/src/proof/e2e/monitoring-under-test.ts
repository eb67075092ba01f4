import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { freePort, type LocalProcess, repository, startProcess } from '@shopstream/local-servers'

/**
 * The same, `times` as fast: `for`, windows, offsets and the waits of Alertmanager, and the seconds that ages are compared with.
 * Bounds below 45 count something.
 */
const hastened = (text: string, times: number) =>
  text
    .replaceAll(/((?:for|wait|interval): |\[|offset )(\d+)([smhdw])/g, (_, before, amount, unit) => {
      const seconds = Number(amount) * ({ s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 }[unit as 's'] ?? 1)
      return `${before}${Math.round((seconds * 1_000) / times)}ms`
    })
    .replaceAll(/([<>] )(\d{2,})$/gm, (all, sign, bound) => (Number(bound) < 45 ? all : sign + Number(bound) / times))

/** A message as somebody on duty gets it. */
export interface Told {
  receiver: string
  status: 'firing' | 'resolved'
  alertname: string
  services: string[]
}

interface Webhook {
  receiver: string
  status: Told['status']
  groupLabels: { alertname: string }
  alerts: { status: string; labels: { service: string } }[]
}

const read = (file: string) => readFileSync(join(repository, 'infra/prometheus', file), 'utf8')

/** Prometheus, with these settings, and Alertmanager, by the rules of infra/prometheus ten times as fast, and its routes thirty times. */
export async function startMonitoring(home: string, settings: (alertmanager: string) => string) {
  const told: Told[] = []
  const duty = createServer(async (request, response) => {
    const { receiver, status, groupLabels, alerts } = (await json(request)) as Webhook
    told.push({
      receiver,
      status,
      alertname: groupLabels.alertname,
      services: alerts.filter((alert) => alert.status === status).map(({ labels }) => labels.service),
    })
    response.end()
  })
  const [port, alertmanagerPort, dutyPort] = await Promise.all([freePort(), freePort(), freePort()])
  await once(duty.listen(dutyPort, '127.0.0.1'), 'listening')
  const dir = join(home, 'monitoring')
  mkdirSync(dir)
  writeFileSync(join(dir, 'prometheus.yml'), settings(`127.0.0.1:${alertmanagerPort}`).replaceAll('15s', '1s'))
  for (const file of ['rules.yml', 'alerts.yml']) writeFileSync(join(dir, file), hastened(read(file), 10))
  const routes = hastened(read('alertmanager.yml'), 30).replaceAll('127.0.0.1:9095', `127.0.0.1:${dutyPort}`)
  writeFileSync(join(dir, 'alertmanager.yml'), routes)
  const launch = (name: string, command: string, at: number, args: string[]) =>
    startProcess({
      name,
      command,
      args: [...args, `--web.listen-address=127.0.0.1:${at}`],
      port: at,
      logFile: join(dir, `${command}.log`),
      pidFile: join(dir, `${command}.pid`),
      ready: /ready to receive web requests|Listening on/,
      readyLimitMs: 60_000,
      stopSignal: 'SIGTERM',
      stopLimitMs: 5_000,
    })
  const running: LocalProcess[] = await Promise.all([
    launch('Alertmanager', 'prometheus-alertmanager', alertmanagerPort, [
      `--config.file=${join(dir, 'alertmanager.yml')}`,
      `--storage.path=${join(dir, 'alertmanager')}`,
      '--cluster.listen-address=',
    ]),
    launch('Prometheus', 'prometheus', port, [
      `--config.file=${join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(dir, 'prometheus')}`,
      '--enable-feature=exemplar-storage',
    ]),
  ])
  const ask = async (path: string, query: Record<string, string> = {}) => {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}?${new URLSearchParams(query)}`)
    // biome-ignore lint/suspicious/noExplicitAny: JSON of Prometheus' API
    return (await answer.json()) as any
  }
  return {
    told,
    ask,
    /** The alerts that are on, held back or not. */
    async firing(): Promise<string[]> {
      const { data } = await ask('alerts')
      const on = data.alerts.filter(({ state }: { state: string }) => state === 'firing')
      return [...new Set<string>(on.map(({ labels }: { labels: { alertname: string } }) => labels.alertname))].sort()
    },
    async stop() {
      await Promise.all(running.map((server) => server.stop()))
      duty.close()
    },
  }
}
