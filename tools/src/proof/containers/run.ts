import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually, repository, runCommand } from '@shopstream/testing'
import { call, staffToken } from '../../local/client.ts'
import type { DemoShop } from '../../local/demo/stage.ts'
import { serviceNames } from '../../local/services.ts'
import { ownPorts, type Ports } from '../../local/settings.ts'
import { refusedByServer, startBusyDay } from '../chaos/busy-day.ts'
import { buildFromCommit, type ComposeShop, composeShop } from './compose.ts'

export interface ContainersOptions {
  /** The commit whose images each service is rolled to and back. */
  previous: string
  /** Holds what clients were answered. */
  folder: string
  /** Leaves the containers running. */
  keep: boolean
  say(line: string): void
}

/** What was measured of an image and its container. */
export interface Measured {
  service: string
  /** Beyond its base image, in MB of 10^6 bytes. */
  megabytes: number
  /** From the start of its process until it was ready. */
  secondsToReady: number
  /** Of its container at rest, as the engine says. */
  memory: string
}

/** Each step in words, and what it found wrong. */
export interface ContainersReport {
  measured: Measured[]
  answers: number
  /** Empty when all went as promised. */
  problems: string[]
}

const tag = 'containers'
const previousTag = 'containers-previous'

/**
 * Builds the images, starts the shop of docker-compose.yml, plays the README's tour and the demo in it, starts it twice, ends and
 * starts it again, rolls each service under load, and has its own image verify it. Throws where a step cannot be done at all.
 */
export async function runContainers({ previous, folder, keep, say }: ContainersOptions): Promise<ContainersReport> {
  const ports = await ownPorts()
  const shop = shopOf(ports)
  const env = {
    ...process.env,
    ...Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)])),
    STAFF_PASSWORD: shop.staff.password,
    SHOPSTREAM_VERSION: tag,
  }
  const running = composeShop(`shopstream-${randomBytes(3).toString('hex')}`, env)
  const up = ['up', '--detach', '--wait', '--no-build']
  try {
    say('building the images of this code')
    // One after the other: they share what is installed.
    for (const name of [...serviceNames, 'shop']) await running.compose(['build', name])
    say(`building those of ${previous}`)
    for (const service of serviceNames) await buildFromCommit(previous, { service, tag: previousTag, env })
    say('up')
    await running.compose(up)
    say("the README's tour and the demo")
    await tour(ports)
    await demo(shop)
    const before = await ordersIn(shop)
    say('up again, down, up')
    await running.compose(up)
    await running.compose(['down'])
    await running.compose(up)
    const after = await ordersIn(shop)
    const end = await startBusyDay(shop, join(folder, 'answers.jsonl'))
    for (const version of [previousTag, tag])
      for (const service of serviceNames) {
        say(`${service} becomes ${version}, while customers order`)
        await running.compose([...up, '--no-deps', service], { SHOPSTREAM_VERSION: version })
      }
    const answers = await end()
    say('at rest; verify, from its own image')
    const verified = await running.compose(['run', '--rm', 'shop', 'verify']).then(
      () => undefined,
      (error: Error) => error.message,
    )
    const measured: Measured[] = []
    for (const service of serviceNames) measured.push(await measure(running, service))
    return {
      measured,
      answers: answers.length,
      problems: [
        ...(before === after && before > 0
          ? []
          : [`there were ${before} orders before down and up, and ${after} after it`]),
        ...refusedByServer(answers).map(({ kind, status, code }) => `${kind} was answered ${status} ${code}`),
        ...(verified === undefined ? [] : [verified]),
        ...(await unconfined(running)),
      ],
    }
  } finally {
    if (keep) say(`left running: ${shop.gatewayUrl}`)
    else await running.compose(['down', '--volumes']).catch((error: Error) => say(`not removed: ${error.message}`))
  }
}

const shopOf = (ports: Ports): DemoShop => ({
  gatewayUrl: `http://127.0.0.1:${ports.GATEWAY_PORT}`,
  mailUrl: `http://127.0.0.1:${ports.MAIL_UI_PORT}`,
  brokers: [`127.0.0.1:${ports.KAFKA_PORT}`],
  topicPrefix: '',
  staff: { email: 'staff@shop.example', password: randomBytes(12).toString('base64url') },
})

/** The commands of the README, on the ports of this run. Throws unless the order is confirmed and its mails are there. */
async function tour(ports: Ports): Promise<void> {
  const readme = readFileSync(join(repository, 'README.md'), 'utf8')
  const commands = /## A tour with curl\n\n```sh\n([^`]+)```/.exec(readme)?.[1] ?? ''
  const moved = commands.replaceAll(':8080', `:${ports.GATEWAY_PORT}`).replaceAll(':1080', `:${ports.MAIL_UI_PORT}`)
  const said = await runCommand('bash', ['-euc', moved])
  if (!said.includes('"status":"confirmed"')) throw new Error(`no order was confirmed in the tour:\n${said}`)
}

async function demo({ gatewayUrl, mailUrl, brokers, staff }: DemoShop): Promise<void> {
  const env = {
    ...process.env,
    KAFKA_BROKERS: brokers.join(','),
    MAIL_URL: mailUrl,
    STAFF_EMAIL: staff.email,
    STAFF_PASSWORD: staff.password,
  }
  await runCommand(process.execPath, ['tools/src/commands/demo.ts', '--gateway', gatewayUrl], { cwd: repository, env })
}

/** A page of them: the demo leaves fewer. */
async function ordersIn(shop: DemoShop): Promise<number> {
  const { body } = await call(shop, 'GET', '/v1/orders?limit=100', { token: await staffToken(shop) })
  return body.items.length
}

async function measure({ docker, idOf, compose }: ComposeShop, service: string): Promise<Measured> {
  const sizeOf = async (image: string) => Number(await docker(['image', 'inspect', '--format', '{{.Size}}', image]))
  const base = /^ARG NODE_IMAGE=(\S+)$/m.exec(readFileSync(join(repository, 'Dockerfile'), 'utf8'))?.[1] ?? ''
  const megabytes = ((await sizeOf(`shopstream/${service}:${tag}`)) - (await sizeOf(base))) / 1e6
  const id = await idOf(service)
  const memory = (await docker(['stats', '--no-stream', '--format', '{{.MemUsage}}', id])).split('/', 1).join().trim()
  await compose(['restart', service])
  const health = ['exec', id, 'node', '/app/health.mjs', 'readyz']
  await eventually(
    `${service} to be ready`,
    () =>
      docker(health).then(
        () => true,
        () => false,
      ),
    { timeoutMs: 60_000, everyMs: 50 },
  )
  const startedAt = await docker(['inspect', '--format', '{{.State.StartedAt}}', id])
  return { service, megabytes, memory, secondsToReady: (Date.now() - Date.parse(startedAt.trim())) / 1_000 }
}

/** Containers of the shop that could do more than they need. */
async function unconfined({ docker, idOf }: ComposeShop): Promise<string[]> {
  const wanted = 'true [ALL] 65532:65532'
  const asked = serviceNames.map(async (service) => {
    const format = '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}'
    const has = (await docker(['inspect', '--format', format, await idOf(service)])).trim()
    return has === wanted ? [] : [`the container of ${service} runs with ${has}, not ${wanted}`]
  })
  return (await Promise.all(asked)).flat()
}
