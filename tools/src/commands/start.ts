/** `npm start`: runs the whole shop on this machine: Kafka, Postgres, mail and every service. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ConfigError } from '@shopstream/config'
import { giveBackStartMemory } from '@shopstream/observability/start-memory'
import {
  type CompanionName,
  companionNames,
  companions,
  listCompanions,
  readCompanions,
  requireCompanions,
} from '../local/companions.ts'
import { paint, prefixer, readableLine } from '../local/log-lines.ts'
import { type ServiceName, serviceNames } from '../local/services.ts'
import { defaultPorts } from '../local/settings.ts'
import { type Shop, startShop } from '../local/shop.ts'
import { AlreadyRunning, homeFolder } from '../local/state-folder.ts'

const usage = `Usage: npm start [-- options]

Runs the shop on this machine until Ctrl-C. Its state is kept in .shopstream/ (npm run reset forgets it).

  --only LIST     runs some of the services: ${serviceNames.join(', ')}
  --with LIST     and beside it: ${companionNames.join(', ')}; alone it says what this machine has
  --traces        and a Zipkin in which each order can be seen as one trace; needs Java
  --verbose       log level debug, and every step of the start
  --log-level L   trace, debug, info, warn, error (default: LOG_LEVEL or info)
  --help

Environment: ${Object.keys(defaultPorts).join(', ')},
KAFKA_BROKERS (with KAFKA_TLS, KAFKA_SASL_MECHANISM and their like), KAFKA_TOPIC_PREFIX and POSTGRES_URL (to use running ones), STAFF_EMAIL, STAFF_PASSWORD, SHOPSTREAM_HOME.
What the services read (their README) reaches them as well.`

const colour = process.stdout.isTTY === true && !process.env.NO_COLOR
// Once npm or the terminal is gone nobody reads; that must not keep the stack from stopping in order.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
const say = (line: string) => void process.stdout.write(`${line}\n`)

const options = await readArguments()
if (options) await main(options)

/** `--with` alone asks what there is. */
function withList(arg: string, n: number, all: string[]): string {
  return arg === '--with' && (all[n + 1] ?? '-').startsWith('-') ? '--with=list' : arg
}

interface Arguments {
  only: ServiceName[]
  beside: CompanionName[]
  logLevel: string | undefined
}

async function readArguments(): Promise<Arguments | undefined> {
  try {
    const { values } = parseArgs({
      args: process.argv.slice(2).map(withList),
      options: {
        only: { type: 'string' },
        with: { type: 'string' },
        traces: { type: 'boolean', default: false },
        verbose: { type: 'boolean', default: false },
        'log-level': { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (values.help) {
      say(usage)
      return undefined
    }
    if (values.with === 'list' || values.with === '') {
      say(await listCompanions(process.env))
      return undefined
    }
    const wanted = values.only?.split(',').map((name) => name.trim()) ?? serviceNames
    const unknown = wanted.filter((name) => !serviceNames.includes(name as ServiceName))
    if (unknown.length > 0)
      throw new Error(`--only: there is no service ${unknown.join(', ')}; there are ${serviceNames.join(', ')}`)
    const beside = readCompanions(`${values.with ?? ''},${values.traces ? 'zipkin' : ''}`)
    await requireCompanions(beside, process.env)
    return {
      only: serviceNames.filter((name) => wanted.includes(name)),
      beside,
      logLevel: values['log-level'] ?? (values.verbose ? 'debug' : undefined),
    }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}\n`)
    process.exitCode = 2
    return undefined
  }
}

async function main({ only, beside, logLevel }: Arguments): Promise<void> {
  const env = { ...process.env, ...(logLevel && { LOG_LEVEL: logLevel }) }
  const prefixed = prefixer([...serviceNames, 'shop'], colour)
  let signalled: NodeJS.Signals | undefined
  const abort = new AbortController()
  const stopped = Promise.withResolvers<void>()
  const stop = async (signal: NodeJS.Signals) => {
    if (signalled) return
    signalled = signal
    say(prefixed('shop', `stopping (${signal}) …`))
    const hardEnd = setTimeout(() => process.exit(1), 9_900)
    abort.abort(new Error(`stopped by ${signal}`))
    await starting.then(
      (started) => started.stop(),
      () => {},
    ) // a start that was ended has stopped its parts itself
    clearTimeout(hardEnd)
    stopped.resolve()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop(signal))

  const starting = startShop({
    env,
    only,
    with: beside,
    signal: abort.signal,
    onLine: (service, line) => say(prefixed(service, readableLine(line, colour))),
    onProgress: (line) => say(prefixed('shop', line)),
  })
  try {
    const shop = await starting
    if (!signalled) say(table(shop, only, beside))
    giveBackStartMemory().catch(() => {}) // it is kept
  } catch (error) {
    if (!signalled) {
      process.stderr.write(`\n${explain(error, only)}\n`)
      process.exit(1)
    }
  }
  await stopped.promise
  say(prefixed('shop', 'stopped'))
  process.exit(0)
}

function explain(error: unknown, only: readonly ServiceName[]): string {
  if (error instanceof ConfigError) return `The shop was not started. ${error.message}`
  if (error instanceof AlreadyRunning && only.length < serviceNames.length)
    return `The shop was not started: ${error.message}. ${besideIt(only)}`
  const { code, path, syscall } = error as NodeJS.ErrnoException
  if (path && ['EACCES', 'EPERM', 'EROFS'].includes(code ?? ''))
    return `The shop was not started: this user may not use ${path} (${code}). Set SHOPSTREAM_HOME to a folder of your own, or start it as the user who owns that one.`
  if (path && syscall === 'mkdir')
    return `The shop was not started: ${path} is no folder, and none can be made there (${code}). Set SHOPSTREAM_HOME to a folder of your own.`
  return `The shop was not started: ${error instanceof Error ? error.message : String(error)}`
}

/** How to run services that a running shop was told to leave out; the files have the URLs of what runs beside it, too. */
function besideIt(only: readonly ServiceName[]): string {
  const others = serviceNames.filter((name) => !only.includes(name))
  const lines = only.map(
    (name) => `  npx node --env-file=${join(homeFolder(), `env/${name}.env`)} services/${name}/src/main.ts`,
  )
  return `A service runs beside it where that one was started without it, by --only ${others.join()}:\n${lines.join('\n')}`
}

function table(shop: Shop, only: readonly ServiceName[], beside: readonly CompanionName[]): string {
  const moved = (name: keyof typeof defaultPorts) =>
    shop.ports[name] === defaultPorts[name] || process.env[name] ? '' : `   (${defaultPorts[name]} is busy)`
  const passwordsPlace = `password in ${join(homeFolder(), 'secrets.json')}`
  const rows: [string, string][] = [
    ['inbox page', `${shop.mailUrl}${moved('MAIL_UI_PORT')}`],
    ['SMTP', `${shop.mail.smtpUrl}${moved('SMTP_PORT')}`],
    [
      'Kafka',
      `${shop.kafka.brokers.join()}   (${shop.kafka.origin})${shop.kafka.origin === 'KAFKA_BROKERS' ? '' : moved('KAFKA_PORT')}`,
    ],
    [
      'Postgres',
      `${withoutPassword(shop.postgres.url)}   (${shop.postgres.origin})${shop.postgres.origin === 'POSTGRES_URL' ? '' : `${moved('POSTGRES_PORT')}   ${passwordsPlace}`}`,
    ],
  ]
  for (const name of beside) {
    const { title, port, variable } = companions[name]
    const url = shop.companionUrls[variable] ?? ''
    rows.push([title, `${withoutPassword(url)}${moved(port)}${new URL(url).password && `   ${passwordsPlace}`}`])
  }
  if (only.includes('user'))
    rows.push([
      'staff login',
      `${shop.staff.email}   ${process.env.STAFF_PASSWORD ? '(STAFF_PASSWORD)' : shop.staff.password}`,
    ])
  if (only.includes('gateway')) {
    rows.unshift(
      ['gateway', `${shop.gatewayUrl}${moved('GATEWAY_PORT')}`],
      ['API docs', `${shop.gatewayUrl}/docs`],
      ['schemas', `${shop.gatewayUrl}/schema-registry`],
    )
    rows.push(['try', `curl ${shop.gatewayUrl}/v1/products`])
  } else rows.unshift(...only.map((name): [string, string] => [name, `${shop.serviceUrls[name]}/docs`]))
  const width = Math.max(...rows.map(([name]) => name.length))
  const lines = rows.map(([name, value]) => `  ${paint(36, name.padEnd(width), colour)}  ${value}`)
  const seconds = (shop.startedInMs / 1_000).toFixed(1)
  const title = paint(1, `The shop is ready after ${seconds} s.`, colour)
  return `\n${title} Ctrl-C stops it; its state is kept in ${homeFolder()}.\n\n${lines.join('\n')}\n`
}

function withoutPassword(address: string): string {
  const url = new URL(address)
  url.password = ''
  return url.href
}
