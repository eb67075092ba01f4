import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runningShop } from '../local/state-folder.ts'
import { toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { print } from '../terminal/printing.ts'
import { tellOrder } from './explain-order.ts'
import { reachHelp, withReach } from './shop-access.ts'
import { fromOtlp, fromZipkin, type StoredSpan, treeOf, type ZipkinSpan } from './span-tree.ts'
import { createTeller } from './story.ts'
import { isUuid } from './uuids.ts'

export const usage = `Usage: npm run shop -- trace ORDER|TRACE_ID [--file FILE] [--json]

The spans of an order, or of a trace, as a tree: service, span, when it began, how long it took, and what failed.

  --file FILE  read OTLP as lines of JSON, as the collector's file exporter writes it, and not Zipkin
  --json       the spans as an array

It asks the Zipkin of npm start -- --traces, or the one at ZIPKIN_URL (http://127.0.0.1:9411). Exit code 1 when there is no
such trace.

${reachHelp}`

const limitMs = 10_000

export async function trace(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { file: { type: 'string' }, json: { type: 'boolean' } },
  })
  const [id = '', ...more] = positionals.map((one) => one.toLowerCase())
  if (more.length > 0 || (!isTraceId(id) && !isUuid(id)))
    throw new UsageError('trace takes the id of an order (a UUID) or of a trace (32 hexadecimal digits).')
  const traceIds = isTraceId(id) ? [id] : await tracesOf(id)
  const { file } = values
  const place = file ?? zipkinUrl()
  const found = file ? await readFile(file, traceIds) : await askZipkin(place, traceIds)
  if (found.length === 0)
    throw new Refusal(
      `${place} has no trace ${traceIds.join(', ')}. Spans are kept only where services send them: npm start -- --traces, or docs/deploying.md.`,
    )
  if (values.json) console.log(toJson(found, 2))
  else {
    const pageOf = (traceId: string) => (file ? [] : [`In the browser: ${place}/zipkin/traces/${traceId}`])
    const trees = [...Map.groupBy(found, ({ traceId }) => traceId)].map(([id, spans]) => [
      ...treeOf(spans),
      ...pageOf(id),
    ])
    print(trees.map((lines) => lines.join('\n')).join('\n\n'))
  }
  return 0
}

const isTraceId = (text: string) => /^[0-9a-f]{32}$/.test(text)

/** An order is one trace, unless somebody did more to it later, such as shipping it. */
async function tracesOf(order: string): Promise<string[]> {
  return withReach(async (reach) => {
    const { traceIds } = await tellOrder(await createTeller(reach, false), order)
    if (traceIds.length === 0) throw new Refusal(`No event of order ${order} names a trace.`)
    return traceIds
  })
}

/** May have a path, as behind a proxy. */
const zipkinUrl = () =>
  (process.env.ZIPKIN_URL || (runningShop()?.companionUrls.ZIPKIN_URL ?? 'http://127.0.0.1:9411')).replace(/\/+$/, '')

async function askZipkin(url: string, traceIds: readonly string[]): Promise<StoredSpan[]> {
  const asked = traceIds.map(async (id) => {
    const response = await fetch(`${url}/api/v2/trace/${id}`, { signal: AbortSignal.timeout(limitMs) }).catch(
      ({ cause, message }) => {
        throw new Refusal(
          `No Zipkin answers at ${url} (${cause?.code ?? message}). Start the shop with npm start -- --traces, or set ZIPKIN_URL.`,
        )
      },
    )
    if (response.status === 404) return []
    if (!response.ok) throw new Refusal(`${url} answers ${response.status}; ZIPKIN_URL must lead to a Zipkin.`)
    return fromZipkin((await response.json()) as ZipkinSpan[])
  })
  return (await Promise.all(asked)).flat()
}

async function readFile(file: string, traceIds: readonly string[]): Promise<StoredSpan[]> {
  try {
    const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean)
    return lines.flatMap((line) => fromOtlp(JSON.parse(line))).filter(({ traceId }) => traceIds.includes(traceId))
  } catch (error) {
    throw new Refusal(`${file} is no file of spans as OTLP's JSON, a line each: ${(error as Error).message}`)
  }
}
