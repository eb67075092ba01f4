import { pause } from '@shopstream/messaging'
import { type Forwarded, MessageRefused, startForwarder } from '@shopstream/messaging/forwarding'
import type { Bridge } from './bridges.ts'
import { toSendable } from './forms/index.ts'
import type { RunningBridge, Surroundings } from './running.ts'
import type { Outlet, Sendable } from './targets/target.ts'
import { serverOf } from './url.ts'

/** Hands events on to the broker of a row. */
export async function startSending(
  bridge: Bridge,
  all: readonly Bridge[],
  around: Surroundings,
): Promise<RunningBridge> {
  const { name, row, target, options, url, events } = bridge
  const { database, bus, blocked, meters, logger } = around
  const outlet = (await target.out?.open({ bridge: name, options, url, logger })) as Outlet // the table was judged
  const here = serverOf(url, target)
  const leavesOut = all
    .filter((one) => one.direction === 'receive' && serverOf(one.url, one.target) === here)
    .map((one) => one.name)
  const forwarder = startForwarder({
    bridge: name,
    service: 'bridge',
    events,
    forward: (some) => send(outlet, bridge, some),
    skips: ({ headers }) => leavesOut.includes(headers.ce_origin?.toString() ?? ''), // what came from there is not sent back
    policy: { ...(row.attempts && { attempts: row.attempts }) },
    database,
    bus,
    blocked,
    logger,
    meters: meters.sending(name),
  })
  return {
    bridge,
    leavesOut,
    away: forwarder.away,
    async close() {
      // What a broker that hangs has not answered by then is sent again after the next start.
      const closing = forwarder.close()
      await Promise.race([closing, pause(closeMs)])
      await outlet.close()
      await closing
    },
  }
}

/** What is in hand may take so long when the bridge stops, in ms. */
const closeMs = 1_500

/** What its form or the row's limit excludes is refused unasked. */
async function send(outlet: Outlet, { row }: Bridge, events: readonly Forwarded[]): Promise<(Error | undefined)[]> {
  const results: (Error | undefined)[] = []
  const sendable: Sendable[] = []
  const places: number[] = []
  for (const [n, one] of events.entries()) {
    const made = form(one, row)
    results.push(made instanceof Error ? made : undefined)
    if (made instanceof Error) continue
    sendable.push(made)
    places.push(n)
  }
  const sent = sendable.length > 0 || events.length === 0 ? await outlet.send(sendable) : []
  for (const [n, place] of places.entries()) results[place] = sent[n]
  return results
}

function form(one: Forwarded, row: Bridge['row']): Sendable | Error {
  try {
    const made = toSendable(one, row)
    const { maxBytes } = row
    if (maxBytes === undefined) return made
    const bytes = Buffer.byteLength(made.text ?? made.body)
    if (bytes <= maxBytes) return made
    return new MessageRefused(`the message has ${bytes} bytes, and maxBytes of its bridge is ${maxBytes}`)
  } catch (error) {
    return new MessageRefused(`the event cannot be written in this form: ${(error as Error).message}`, { cause: error })
  }
}
