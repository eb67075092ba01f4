/**
 * Runs `work` for what has come while it was at work before, `most` at once: one run at a time, whose results are in the
 * order of its items. What comes alone is worked on at once. When a run throws, all that are in it fail with its error.
 */
export function gather<Item, Result>(
  most: number,
  work: (items: Item[]) => Promise<readonly Result[]>,
): (item: Item) => Promise<Result> {
  const waiting: (PromiseWithResolvers<Result> & { item: Item })[] = []
  let isAtWork = false

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const those = waiting.splice(0, most)
      try {
        const results = await work(those.map(({ item }) => item))
        for (const [place, { resolve }] of those.entries()) resolve(results[place] as Result)
      } catch (error) {
        for (const { reject } of those) reject(error)
      }
    }
    isAtWork = false
  }

  return (item) => {
    const one = { item, ...Promise.withResolvers<Result>() }
    waiting.push(one)
    if (!isAtWork) setImmediate(run) // once everybody has come who came at the same time
    isAtWork = true
    return one.promise
  }
}
