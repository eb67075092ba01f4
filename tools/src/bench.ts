/** `npm run bench -- NAMES`: measures the shop on this machine. */
import { writeFileSync } from 'node:fs'
import { cpus, platform, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { article } from './bench/beside.ts'
import { codec } from './bench/codec.ts'
import { orders as placing } from './bench/orders.ts'
import { rest } from './bench/rest.ts'
import { start } from './bench/start.ts'
import { verify } from './bench/verify.ts'

/** Every benchmark by its name; each prints what it does and returns its figures. */
const benches = { orders: placing, article, start, rest, codec, verify }

const usage = `Usage: npm run bench -- [--json FILE] [--orders N] NAME...

  orders  orders per second of 32 clients, each decided before the next, and the CPU that each part needs for one
  article the most orders per second that are confirmed, and CPU of one, beside those of a Django and Celery stack on RabbitMQ
          and Postgres (needs Python 3 and RabbitMQ), in turns
  start   time from npm start to ready, memory of everything together, time until all is stopped
  rest    latency of an order at rest, beside that of a read; CPU of the idle shop
  codec   encoding and decoding our events, beside plain avsc, Confluent's client for Node, and JSON with ajv; bytes
  verify  seconds and memory of npm run shop -- verify over a shop of --orders orders (default 100,000)

All but codec start a shop of their own with its state in a temporary folder, and remove it afterwards.`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    help: { type: 'boolean', default: false },
    json: { type: 'string' },
    orders: { type: 'string', default: '100000' },
  },
})
const orders = Number(values.orders)
const unknown = positionals.filter((name) => !(name in benches))
if (values.help) process.stdout.write(`${usage}\n`)
else if (!/^[1-9]\d{0,8}$/.test(values.orders)) {
  process.stderr.write(`--orders ${values.orders} is no number of orders.\n\n${usage}\n`)
  process.exitCode = 2
} else if (unknown.length > 0 || positionals.length === 0) {
  process.stderr.write(`${unknown.length > 0 ? `There is no benchmark ${unknown.join(', ')}.\n\n` : ''}${usage}\n`)
  process.exitCode = 2
} else {
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()}`,
    node: process.version,
    date: new Date().toISOString(),
  }
  process.stdout.write(`${Object.values(machine).join(' · ')}\n`)
  const figures: Record<string, unknown> = { machine }
  for (const name of positionals as (keyof typeof benches)[]) {
    process.stdout.write(`\n${name}\n`)
    figures[name] = await benches[name]((line) => process.stdout.write(`  ${line}\n`), { orders })
  }
  if (values.json) writeFileSync(values.json, `${JSON.stringify(figures, null, 2)}\n`)
}
