import { type Database, gather, isUnavailable, type Transaction } from '@shopstream/database'
import { ShopError } from './errors.ts'
import { answerOnce, claim, isLockTimeout, keep, nameOf, release } from './idempotency.ts'
import type { EffectGroup, GroupedRequest, IdempotentRequest, Reply } from './routes.ts'

/** Requests of one transaction at the most. */
const most = 64
/** How long a group waits for a key that another transaction holds, in ms; then that request goes alone. */
const waitMs = 50

type Outcome = Reply | ShopError | 'alone'

/**
 * Writes the effects of requests that come at the same time in one transaction: with 32 clients, one commit serves up
 * to 32. A refused request has no effect and fails no other. A request whose key another request holds, or that was
 * answered before, goes alone; all go alone after an error that cannot be blamed on one of them.
 * @param work writes the effects of all; returns for each its answer, or the error that refuses it, of which it writes nothing.
 */
export function effectGroup<Input>(
  // biome-ignore lint/suspicious/noExplicitAny: any service's database
  database: Database<any>,
  work: (tx: Transaction, inputs: Input[]) => Promise<(Reply | ShopError)[]>,
): EffectGroup<Input> {
  type Request = GroupedRequest<Input>

  const together = gather<Request, Outcome>(most, async (requests) => {
    try {
      return await database.transaction((tx) => handle(tx, requests))
    } catch (error) {
      // Nobody knows the outcome of a commit that failed: the client has to ask again.
      if (isUnavailable(error) && !isLockTimeout(error)) throw error
      return requests.map(() => 'alone' as const)
    }
  })

  async function handle(tx: Transaction, requests: readonly Request[]): Promise<Outcome[]> {
    const keys = new Map<string, IdempotentRequest>()
    for (const { repeatable } of requests)
      if (repeatable && !keys.has(nameOf(repeatable))) keys.set(nameOf(repeatable), repeatable)
    const claimed = new Set(await claim(tx, [...keys.values()], waitMs))
    const own = requests.filter(({ repeatable }) => !repeatable || claimed.has(repeatable))
    const replies = await work(
      tx,
      own.map(({ input }) => input),
    )
    const outcomes = new Map(own.map((request, place) => [request, replies[place] as Reply | ShopError]))
    const pairs = [...outcomes].flatMap(([{ repeatable: request }, reply]) => (request ? [{ request, reply }] : []))
    await keep(
      tx,
      pairs.flatMap(({ request, reply }) => (reply instanceof ShopError ? [] : [{ request, reply }])),
    )
    await release(
      tx,
      pairs.filter(({ reply }) => reply instanceof ShopError).map(({ request }) => request),
    )
    return requests.map((request) => outcomes.get(request) ?? 'alone')
  }

  const alone = ({ input, repeatable }: Request) =>
    database.transaction((tx) => {
      const once = async () => orThrow((await work(tx, [input]))[0] as Reply | ShopError)
      return repeatable ? answerOnce(tx, repeatable, once) : once()
    })

  return {
    async run(request) {
      const outcome = await together(request)
      return outcome === 'alone' ? alone(request) : orThrow(outcome)
    },
  }
}

function orThrow(outcome: Reply | ShopError): Reply {
  if (outcome instanceof ShopError) throw outcome
  return outcome
}
