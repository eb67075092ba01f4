/**
 * Runs `work` for the items that came during the run before, at most `most` at once; one run at a time, with results in
 * the order of its items. An item that comes alone is worked on at once. When a run throws, all its items fail with its
 * error; after `patienceMs`, as on a connection that hangs, later items do not wait for it any more.
 */
export function gather<Item, Result>(
  most: number,
  work: (items: Item[]) => Promise<readonly Result[]>,
  patienceMs = 500,
): (item: Item) => Promise<Result> {
  const waiting: (PromiseWithResolvers<Result> & { item: Item })[] = []
  let isAtWork = false

  async function run(): Promise<void> {
    isAtWork = true
    while (waiting.length > 0) {
      let isLate = false
      const timer = setTimeout(() => {
        isLate = true
        isAtWork = false
        if (waiting.length > 0) void run()
      }, patienceMs)
      await runOnce(waiting.splice(0, most))
      clearTimeout(timer)
      if (isLate) return // another has gone on
    }
    isAtWork = false
  }

  async function runOnce(those: typeof waiting): Promise<void> {
    try {
      const results = await work(those.map(({ item }) => item))
      for (const [place, { resolve }] of those.entries()) resolve(results[place] as Result)
    } catch (error) {
      for (const { reject } of those) reject(error)
    }
  }

  return (item) => {
    const one = { item, ...Promise.withResolvers<Result>() }
    waiting.push(one)
    if (!isAtWork) setImmediate(run) // after all items that come at the same time
    isAtWork = true
    return one.promise
  }
}
