import {
  type Bus,
  type IncomingMessage,
  type Place,
  placeOf,
  type ReadOptions,
  type Unreadable,
} from '@shopstream/messaging/operations'

/** What stands next in a partition. */
export type Item = { message: IncomingMessage; unreadable?: never } | { unreadable: Unreadable; message?: never }

export interface InOrderOptions {
  places: readonly Place[]
  from?: Date
  /** Of other messages, only the offset that was read is noted. */
  fits(message: IncomingMessage): boolean
  signal: AbortSignal
}

/**
 * Reads partitions up to their ends and merges them by the times at which their messages were written; those of one
 * partition keep their order. Each is read by itself and only as far as needed, so that memory is bounded by one answer
 * of the broker per partition, however uneven they are. `reached` gets, by place, the offset after what was read, if
 * anything was.
 */
export async function* readInOrder(bus: Bus, options: InOrderOptions, reached: Map<string, bigint>) {
  const streams = options.places.map((place) => readPlace(bus, place, options, reached))
  try {
    const heads = await Promise.all(streams.map(headOf))
    for (;;) {
      const open = heads.filter((head) => head !== undefined)
      const [first, ...others] = open
      if (!first) return
      const next = others.reduce((early, head) => (head.writtenAt < early.writtenAt ? head : early), first)
      yield next.item
      heads[heads.indexOf(next)] = await headOf(next.stream)
    }
  } finally {
    await Promise.all(streams.map((stream) => stream.return(undefined)))
  }
}

async function headOf(stream: AsyncGenerator<Item, void>) {
  const { value: item } = await stream.next()
  // An item without a time comes directly after the items before it.
  return item && { item, stream, writtenAt: item.message?.timestamp?.getTime() ?? Number.NEGATIVE_INFINITY }
}

/** One partition. Throws what reading it throws. */
async function* readPlace(
  bus: Bus,
  { topic, partition }: Place,
  { from, fits, signal }: InOrderOptions,
  reached: Map<string, bigint>,
): AsyncGenerator<Item, void> {
  const place = placeOf({ topic, partition })
  const ended = new AbortController()
  // A writer goes on once what it has written is taken.
  const { readable, writable } = new TransformStream<Item[], Item[]>({}, { highWaterMark: 0 }, { highWaterMark: 0 })
  const writer = writable.getWriter()
  const reading: ReadOptions = {
    topics: [topic],
    partitions: [{ topic, partition }],
    ...(from && { from }),
    toEnd: true,
    signal: AbortSignal.any([signal, ended.signal]),
    async handle(messages) {
      const items = messages.filter(fits).map((message): Item => ({ message }))
      if (items.length > 0) await writer.write(items)
      reached.set(place, (messages.at(-1) as IncomingMessage).offset + 1n)
    },
    async unreadable(unreadable) {
      await writer.write([{ unreadable }])
      reached.set(place, unreadable.lastOffset + 1n)
    },
  }
  const read = bus.read(reading).then(
    () => writer.close(),
    (error) => writer.abort(error),
  )
  read.catch(() => {}) // the readable side tells it
  try {
    for await (const items of readable) yield* items
  } finally {
    ended.abort()
    await read.catch(() => {})
  }
}
