/** `npm run bench -- NAMES`: measures the shop on this machine. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, platform, release, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { kafkaVersion, repository } from '@shopstream/testing'
import { idle, rest } from '../bench/at-rest.ts'
import { backlog, scaleOut } from '../bench/backlog.ts'
import { bridges } from '../bench/bridges.ts'
import { codec } from '../bench/codec.ts'
import { consume } from '../bench/consume.ts'
import { cost } from '../bench/cost.ts'
import { dataFolder, type Grown, openGrown } from '../bench/data.ts'
import { ingest } from '../bench/ingest.ts'
import { articleLatency, latency, latencyTwo } from '../bench/latency.ts'
import { grown, mailing, snapshot } from '../bench/long.ts'
import { mails } from '../bench/mails.ts'
import { budgetPlot, ratioPlot } from '../bench/plots.ts'
import { relay } from '../bench/relay.ts'
import { burst, gateway, hotSku } from '../bench/requests.ts'
import { fallen, type Result, table } from '../bench/results.ts'
import { beside, references } from '../bench/side-by-side.ts'
import { start } from '../bench/start-time.ts'
import { verify } from '../bench/verify.ts'
import { yardstick } from '../bench/yardstick.ts'

/** Each with a reference or a goal of its own. */
const measured = {
  relay,
  gateway,
  latency,
  'article-latency': articleLatency,
  'latency-two': latencyTwo,
  'hot-sku': hotSku,
  burst,
  consume,
  ingest,
  mails,
  bridges,
  idle,
  grown,
  snapshot,
  backlog,
  'scale-out': scaleOut,
}
/** Each prints what it does and returns figures of its own. */
const told = { cost, start, rest, codec, mailing, verify }
/** Together `long`, in this order: what has been added to the grown shop by then is verified last. */
const long = ['grown', 'snapshot', 'backlog', 'scale-out', 'mailing', 'verify']

type Reference = keyof typeof references
type Measured = keyof typeof measured
type Told = keyof typeof told

const usage = `Usage: npm run bench -- [--seconds N] [--orders N] [--json FILE] [--compare FILE] [NAME...]

Beside a reference, in turns: the most orders a second until the row of the confirmation mail, and the CPU of one.
  orders    the same services written the usual way: a transaction per message, an outbox polled each second
  article   Django, Celery and RabbitMQ (needs Python 3 and RabbitMQ)
  workflow  durable workflows on Postgres (DBOS Transact), one process and one database

Of a shop of its own:
  relay     events a second that a relay publishes and deletes, beside the same messages straight from memory
  gateway   reads of a product a second, beside the same straight at the service
  latency   from POST until decided: at rest, and 99 % at half of the most orders, beside the sum of the parts measured alone
  article-latency  the same at rest, beside the article's stack
  latency-two      the same at rest with two instances of every service, beside one of each
  hot-sku   orders a second that all want one product, beside such that want each another
  burst     5,000 orders in a second, by clients that come again when they are told to
  consume   messages a second of inventory's whole consumer on a full topic, beside its very statements by plain connections
  ingest    orders a second that the order service accepts, beside an insert of the same row for each by plain connections
  mails     confirmations a second that notification sends, beside nodemailer's pool with the same mails from memory
  bridges   events a second out of a full topic to RabbitMQ and to Redis, beside a plain client with the same JSON
  idle      CPU and memory of everything while nobody uses it
  cost      what one order of 32 clients costs each part, each decided before the next; transactions, rows, write-ahead log
  start     time from npm start to ready, memory of everything together, time until all is stopped
  rest      latency of an order at rest, beside that of a read; CPU of the idle shop
  codec     encoding and decoding our events, beside plain avsc, Confluent's client for Node, and JSON with ajv; bytes

With --orders orders there already, ten times as many inbox rows, and a tenth as many products (filled once, and kept):
  grown     orders a second, beside an empty shop
  mailing   time until a mailing to each customer is sent, one for twenty orders, and memory of notification
  verify    seconds and memory of npm run shop -- verify, over what those before have left

What lasts:
  snapshot  orders a second at the end of ten minutes in which a snapshot of each database is held, beside none
  backlog   orders a second out of 200,000 of which no group has handled anything, beside the most that arrive at once
  scale-out  orders a second that three of inventory reserve, which sleep 20 ms in each chunk, beside one

Without a name: all but cost and those that take long; long stands for these, with a million orders, in 75 minutes.
  --seconds N     of each measured round (default 10; 20 with any that takes long); consume takes 20,000 messages for each,
                  a snapshot is held for thirty of them, and 10,000 orders of a backlog wait for each
  --orders N      of the grown shop (default 100,000; with grown, mailing or long a million)
  --data DIR      keeps the grown shop, about 7 KB an order (default: a folder of the cache)
  --json FILE     writes machine, versions and results
  --plots FOLDER  draws the ratios and the CPU of an order there (SVG); with --drawn-of FILE those of an earlier run alone
  --compare FILE  says which ratio fell since FILE by more than the rounds are apart; then the exit code is 1

Each starts what it needs with its state in a temporary folder, and removes it afterwards. All servers sync to disk.`

const usual = [...Object.keys(references), ...Object.keys(measured), 'start', 'rest', 'codec'].filter(
  (name) => !long.includes(name),
)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    help: { type: 'boolean', default: false },
    seconds: { type: 'string' },
    orders: { type: 'string' },
    data: { type: 'string', default: dataFolder },
    json: { type: 'string' },
    compare: { type: 'string' },
    plots: { type: 'string' },
    'drawn-of': { type: 'string' },
  },
})

const names = positionals.length > 0 ? positionals.flatMap((name) => (name === 'long' ? long : [name])) : usual
/** So that all short ones are through in half an hour, and a snapshot is held for ten minutes. */
const seconds = values.seconds ?? (names.some((name) => long.includes(name)) ? '20' : '10')
const orders = values.orders ?? (names.includes('grown') || names.includes('mailing') ? '1000000' : '100000')

const isReference = (name: string): name is Reference => name in references
const isMeasured = (name: string): name is Measured => name in measured
const isTold = (name: string): name is Told => name in told
const isCount = (text: string) => /^[1-9]\d{0,8}$/.test(text)
const print = (line: string) => process.stdout.write(`${line}\n`)
const say = (line: string) => print(`  ${line}`)

/** What is wrong with the arguments; undefined when nothing is. */
function wrong(): string | undefined {
  const unknown = names.filter((name) => !isReference(name) && !isMeasured(name) && !isTold(name))
  if (unknown.length > 0) return `There is no benchmark ${unknown.join(', ')}.`
  if (!isCount(orders)) return `--orders ${orders} is no number of orders.`
  if (!isCount(seconds)) return `--seconds ${seconds} is no number of seconds.`
  if (values.compare && !existsSync(values.compare)) return `--compare ${values.compare}: there is no such file.`
  const drawn = values['drawn-of']
  if (drawn !== undefined && !existsSync(drawn)) return `--drawn-of ${drawn}: there is no such file.`
  if (drawn !== undefined && !values.plots) return '--drawn-of takes --plots FOLDER.'
  return undefined
}

function draw(folder: string, results: readonly Result[]): void {
  mkdirSync(folder, { recursive: true })
  for (const [file, plot] of Object.entries({
    'performance-ratios.svg': ratioPlot,
    'performance-cpu.svg': budgetPlot,
  })) {
    writeFileSync(join(folder, file), plot(results))
    print(`drawn: ${join(folder, file)}`)
  }
}

async function run(grown: Grown): Promise<void> {
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()}`,
    date: new Date().toISOString(),
  }
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: repository, encoding: 'utf8' }).trim()
  const versions = { node: process.version, kafka: kafkaVersion, shop: commit }
  print(Object.values({ ...machine, ...versions }).join(' · '))
  const commits = await yardstick()
  print(`yardstick: ${commits.toFixed(0)} commits of one row a second; load of the machine ${loadavg()[0]?.toFixed(1)}`)
  const results: Result[] = []
  const details: Record<string, unknown> = {}
  const write = () => {
    const all = { machine, versions, yardstick: { commitsPerSecond: commits }, results, details }
    if (values.json) writeFileSync(values.json, `${JSON.stringify(all, null, 2)}\n`)
  }
  const chosen = names.filter(isReference)
  if (chosen.length > 0) {
    print(`\n${chosen.join(', ')}`)
    results.push(...(await beside(chosen, Number(seconds), say)))
    write()
  }
  for (const name of names.filter(isMeasured)) {
    print(`\n${name}`)
    results.push(...(await measured[name](say, { seconds: Number(seconds), grown })))
    write()
  }
  for (const name of names.filter(isTold)) {
    print(`\n${name}`)
    details[name] = await told[name](say, { grown })
    write()
  }
  if (results.length > 0) print(`\n${table(results)}`)
  if (values.plots) draw(values.plots, results)
  if (!values.compare) return
  const before: { results: Result[] } = JSON.parse(readFileSync(values.compare, 'utf8'))
  const worse = fallen(before.results, results)
  print(worse.length > 0 ? `\nFell since ${values.compare}:\n${worse.join('\n')}` : '\nNo ratio fell beyond the noise.')
  if (worse.length > 0) process.exitCode = 1
}

const problem = wrong()
if (values.help) print(usage)
else if (problem) {
  process.stderr.write(`${problem}\n\n${usage}\n`)
  process.exitCode = 2
} else if (values.plots && values['drawn-of'])
  draw(values.plots, JSON.parse(readFileSync(values['drawn-of'], 'utf8')).results)
else {
  const grown = openGrown(Number(orders), resolve(process.env.INIT_CWD ?? '', values.data), say)
  try {
    await run(grown)
  } finally {
    await grown.close()
  }
}
