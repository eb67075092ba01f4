/** Opens a connection when one is needed and none is there: clients are told neither to reconnect nor to keep anything for later. */
export function keepOpen<Open>(kind: {
  /** Throws in words. */
  open(): Promise<Open>
  isThere(open: Open): boolean
  end(open: Open): void | Promise<void>
}) {
  let current: Promise<Open> | undefined
  let isClosed = false
  return {
    /** Throws in words while the server is away or refuses the login. */
    async get(): Promise<Open> {
      const tried = current
      const open = tried && (await tried.catch(() => undefined))
      if (isClosed) throw new Error('the bridge is stopping')
      if (open !== undefined && kind.isThere(open)) return open
      if (current === tried || !current) current = kind.open() // else another call has begun to
      return current
    },
    async close(): Promise<void> {
      isClosed = true
      const open = await current?.catch(() => undefined)
      if (open !== undefined) await kind.end(open)
    },
  }
}
