import type { Session } from '@shopstream/database'

/**
 * SQL: the rows of the outbox with the lowest ids, in order, without rows that the relay is done with: while somebody
 * holds a snapshot, deleted rows stay, and whoever reads from the head walks over all of them. `where` may name
 * `outbox`. Each half has the limit of its own: otherwise Postgres sorts the whole of each, and a look before 60,000
 * rows took 45 ms.
 */
export function firstOfOutbox({ columns = '*', where = 'true', limit }: FirstRows): string {
  const half = (place: string) =>
    `(select ${columns} from outbox where ${place} and ${where} order by id limit ${limit})`
  return `select * from (
    ${half('id = any (array(select unnest(left_behind) from outbox_floor))')}
    union all
    ${half('id > (select id from outbox_floor)')}) as outbox order by id limit ${limit}`
}

interface FirstRows {
  /** Of `outbox`, `id` among them; default all. */
  columns?: string
  where?: string
  /** Not as a parameter: a plan for any number reads them all. */
  limit: number
}

/** Rows that are published between two moves of the floor: walking over so many takes about a millisecond. */
const stepRows = 2_000
/**
 * How many waiting rows may stand below the floor, such as those of a missing topic; else it stays at the last of
 * these.
 */
const leftBehind = 1_000
const askEveryMs = 1_000

/** SQL: whether all transactions from before a mark are over; its number is `$1`. */
const isOver = 'pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8'

/** Every row with an id up to `id` belongs to a transaction that is older than `transaction`. */
interface Mark {
  id: bigint
  transaction: string
}

/** Moves the floor of the outbox, for as long as a relay leads. */
export interface OutboxFloor {
  /** To be told of what has been published and deleted. */
  passed(rows: number): Promise<void>
}

/**
 * Ids are given out before their transactions commit, so the last visible id does not mean that all lower ones are
 * visible. A transaction gets its own number before it gets an id (`insertOutbox` makes sure of that). So the last id
 * that was given out is noted, and then a new transaction number. Once no transaction before that number is running,
 * all rows up to that id are visible, or never will be. A dump has no number and delays nothing; a writing transaction
 * does, for as long as it runs.
 */
export function createOutboxFloor(session: Session): OutboxFloor {
  let passed = stepRows // whoever led before may have left a step
  let mark: Mark | undefined
  let askedAt = Number.NEGATIVE_INFINITY

  return {
    async passed(rows) {
      passed += rows
      if (!mark && passed >= stepRows) {
        passed = 0
        mark = await takeMark(session)
      } else if (mark && performance.now() - askedAt >= askEveryMs) {
        askedAt = performance.now()
        if (await moveTo(session, mark)) mark = undefined
      }
    },
  }
}

async function takeMark(session: Session): Promise<Mark> {
  // Two statements: the number is to be newer than the id.
  const [last] = await session.query<{ id: bigint }>(
    'select last_value - (not is_called)::integer as id from outbox_id_seq', // an unused sequence holds the first value to come
  )
  const [own] = await session.query<{ transaction: string }>('select pg_current_xact_id()::text as transaction')
  return { id: last?.id ?? 0n, transaction: own?.transaction ?? '0' }
}

/** Returns false while a transaction from before the mark is running. */
async function moveTo(session: Session, { id, transaction }: Mark): Promise<boolean> {
  const [state] = await session.query<{ over: boolean }>(
    `with state as materialized (select ${isOver} as over),
     waiting as (${firstOfOutbox({ columns: 'id', where: 'id <= $2', limit: leftBehind })}),
     found as materialized (select array(select id from waiting order by id) as ids),
     moved as (
       update outbox_floor set
         id = case when cardinality(ids) < ${leftBehind} then $2 else ids[${leftBehind}] end, left_behind = ids
       from found
       where outbox_floor.id < $2 and (select over from state))
     select over from state`,
    [transaction, id],
  )
  return state?.over === true
}

/** What one look into the outbox has come to. */
export interface Look {
  /** Partitions, or whole topics, that it skipped. */
  passedOver: ReadonlySet<string>
  /** All that it took is published up to this id; 0: not all that it found is published. */
  upTo: bigint
}

/** Where looks begin while some partitions are passed over; of one relay, in memory. */
export interface RestingFloor {
  /** Up to this id, only rows of skipped partitions are waiting. */
  from(passedOver: ReadonlySet<string>): bigint
  looked(look: Look): Promise<void>
}

/**
 * Rows of a topic that is missing, or held while it grows, stay in the table: behind 300,000 of them, each look for
 * others' events took 2 s. As with the floor, all rows up to a mark are visible once the transactions before the mark
 * are over; a look after that publishes all that was to be published up to it. When a partition is no longer skipped,
 * or a refused row goes out after all, looks begin at the floor again.
 */
export function createRestingFloor(session: Session): RestingFloor {
  let floor = { id: 0n, passedOver: new Set<string>() as ReadonlySet<string> }
  let mark: (Mark & { isOver: boolean }) | undefined
  let refused: bigint | undefined
  let askedAt = Number.NEGATIVE_INFINITY

  return {
    from: (passedOver) => ([...floor.passedOver].every((place) => passedOver.has(place)) ? floor.id : 0n),
    async looked({ passedOver, upTo }) {
      if (passedOver.size === 0) {
        floor = { id: 0n, passedOver }
        mark = undefined
        return
      }
      if (mark?.isOver) {
        // biome-ignore lint/complexity/useMathMinMax: Math takes no bigint
        if (upTo > 0n) floor = { id: upTo < mark.id ? upTo : mark.id, passedOver }
        mark = undefined
      }
      if (performance.now() - askedAt < askEveryMs) return
      askedAt = performance.now()
      mark ??= { ...(await takeMark(session)), isOver: false }
      const [state] = await session.query<{ over: boolean; refused: bigint }>(
        `select ${isOver} as over, (select coalesce(sum(id), 0)::bigint from outbox where refused is not null) as refused`,
        [mark.transaction],
      )
      mark.isOver = state?.over === true
      if (state?.refused !== refused) floor = { id: 0n, passedOver }
      refused = state?.refused
    },
  }
}

/**
 * Resets a floor above the sequence: after a restore of the rows without their sequence, new ids are below the floor,
 * where nobody would look. An instance calls it when it begins to lead.
 */
export async function checkFloor(session: Session): Promise<void> {
  await session.query(
    `update outbox_floor set id = 0, left_behind = '{}' where id > (select last_value from outbox_id_seq)`,
  )
}
