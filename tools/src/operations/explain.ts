import { parseArgs } from 'node:util'
import { toJson } from '../terminal/format.ts'
import { Refusal, UsageError } from '../terminal/options.ts'
import { repeatedly } from '../terminal/repeat.ts'
import { eventScreen, tellEvent } from './explain-event.ts'
import { orderScreen, tellOrder } from './explain-order.ts'
import { productScreen, tellProduct, tellUser, userScreen } from './explain-others.ts'
import { personalHelp } from './read-event.ts'
import { reachHelp, withReach } from './shop-access.ts'
import { createTeller, type Teller } from './story.ts'
import { isUuid } from './uuids.ts'
import type { Verdict } from './verdict.ts'

export const usage = `Usage: npm run shop -- explain [order|user|product|event] ID [--follow] [--json] [--personal]

The whole story on one screen, and what it waits for. Without a kind, a UUID is tried as order, user and event, text with
an @ is a user's address, and other text is a sku.

  explain ORDER         request, each event with topic, partition and offset, who wrote and who handled it and when,
                        attempts and errors, mails, trace id; what has not happened, and why
  explain user ID|EMAIL account, its events, who knows them, mails, latest orders
  explain product SKU   catalogue, stock, who knows its state, latest events
  explain event ID      one event: headers, payload, what became of it in each group and each bridge; also by the id that the
                        sender gave what came in by a bridge

  --follow        again each 2 s, until nothing more will happen
  --json          the story as an object; its verdict is {state, text, run}
  ${personalHelp}

States of a verdict: final (nothing more will happen), waiting (all is in order, it is somebody's turn), working (in
flight), stuck (a person is needed). Exit code 0, or 1 when it is stuck or nobody knows the ID.

${reachHelp}`

interface Kind {
  /** What it is known by, in words. */
  takes: string
  // biome-ignore lint/suspicious/noExplicitAny: each kind has a story of its own
  tell(teller: Teller, id: string): Promise<any>
  // biome-ignore lint/suspicious/noExplicitAny: see above
  screen(story: any): string
}

const kinds: Record<string, Kind> = {
  order: { takes: 'its id', tell: tellOrder, screen: orderScreen },
  user: { takes: 'their id or address', tell: tellUser, screen: userScreen },
  product: { takes: 'its sku', tell: tellProduct, screen: productScreen },
  event: { takes: 'its id, or that of its sender', tell: tellEvent, screen: eventScreen },
}

export async function explain(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { follow: { type: 'boolean' }, json: { type: 'boolean' }, personal: { type: 'boolean' } },
  })
  const [first, second, ...more] = positionals
  if (first === undefined || more.length > 0) throw new UsageError(`explain takes one ID.`)
  const kind = Object.hasOwn(kinds, first) ? kindOf(first) : undefined
  if (kind && second === undefined) throw new UsageError(`Which ${first}? explain ${first} takes ${kind.takes}.`)
  if (!kind && second !== undefined)
    throw new UsageError(`explain knows no ${first}, only ${Object.keys(kinds).join(', ')}.`)
  const id = second ?? first
  if (id.trim() === '') throw new UsageError('explain takes one ID, and this is empty.')
  if (first === 'order' && second !== undefined && !isUuid(id.toLowerCase()))
    throw new UsageError(`There is no order ${id}: those are UUIDs.`)
  const candidates = second === undefined ? kindsFor(id) : [first]
  return withReach(async (reach) => {
    const teller = await createTeller(reach, values.personal === true)
    const story = await firstKnown(teller, candidates, isUuid(id.toLowerCase()) ? id.toLowerCase() : id)
    let verdict: Verdict = story.told.verdict
    let next: typeof story | undefined = story
    const look = async () => {
      teller.forget()
      const { kind, told } = next ?? { kind: story.kind, told: await kindOf(story.kind).tell(teller, story.id) }
      next = undefined
      verdict = told.verdict
      return values.json ? toJson(told, values.follow ? undefined : 2) : kindOf(kind).screen(told)
    }
    await repeatedly(values.follow === true, look, () => verdict.state === 'final')
    return verdict.state === 'stuck' ? 1 : 0
  })
}

const kindOf = (name: string) => kinds[name] as Kind

function kindsFor(id: string): string[] {
  if (isUuid(id.toLowerCase())) return ['order', 'user', 'event']
  return [id.includes('@') ? 'user' : 'product']
}

/** The story of the first kind that knows the id. Throws the last Refusal when none does. */
async function firstKnown(teller: Teller, candidates: string[], id: string) {
  let refusal = new Refusal(`nobody knows ${id}`)
  for (const kind of candidates) {
    try {
      return { kind, id, told: await kindOf(kind).tell(teller, id) }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      refusal = error
    }
  }
  throw candidates.length > 1 ? new Refusal(`Nobody knows an order, a user or an event ${id}.`) : refusal
}
