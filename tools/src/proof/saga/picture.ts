import { code, table } from '../../schemas/catalogue.ts'
import { agreement, deadlineSeconds, inventory, order } from './services.ts'

/** The next state, one of two by a condition, `already` or `impossible`. */
type Cell = string | Readonly<Record<string, string>>
/** States by inputs. */
type Table = Readonly<Record<string, Readonly<Record<string, Cell>>>>

/** Inputs in words, where their names alone would not do. */
const words: Record<string, string> = { deadline: 'deadline passed' }
const named = (input: string) => words[input] ?? input

/** `docs/saga.md`: the tables that decide an order and its reservation, and the pictures of them. */
export function printSaga(): string {
  const { lifeCycle: orders, announces } = order
  const { lifeCycle: reservations, entering } = inventory
  const parts = [
    introduction,
    '## An order',
    `Decided by [life-cycle.ts](../services/order/src/life-cycle.ts) of the order service: clients ${listed(['place', 'cancel', 'ship', 'deliver'].map(code))}, inventory answers ${code('StockReserved')} or ${code('StockRejected')}, and the sweeper says when the deadline has passed. ${unheard(entering, orders)} mean nothing to it.`,
    diagram(orders),
    cells(orders),
    table(
      ['coming to', 'is announced by'],
      Object.entries(announces).map((row) => row.map(code)),
    ),
    '## Its reservation',
    `Decided by [decide.ts](../services/inventory/src/reserving/decide.ts) of inventory, by the order's events. ${unheard(announces, reservations)} mean nothing to it.`,
    diagram(reservations),
    cells(reservations),
    table(
      ['coming to', 'is announced by', 'on hand', 'reserved'],
      Object.entries(entering).map(([state, { announces: event, onHand, reserved }]) => [
        code(state),
        code(event),
        moved(onHand),
        moved(reserved),
      ]),
    ),
    '## What parks',
    parking,
    [
      ...parked(orders, 'an order', events(orders)),
      ...parked(reservations, 'a reservation', events(reservations)),
    ].join('\n'),
    '## The deadline',
    deadline(deadlineSeconds),
    '## At rest',
    'With nothing under way between the two, an order and its reservation agree; a pending order is never at rest.',
    table(
      ['order', 'reservation'],
      Object.entries(agreement).map(([status, states]) => [
        code(status),
        states.map(code).join(' or ') || 'not at rest',
      ]),
    ),
    proof,
  ]
  return `${parts.join('\n\n')}\n`
}

const introduction = `<!-- Written by \`npm run generate\` from the tables in the services. Changes made here are lost. -->

# The saga of an order

Two services take part, and each decides by one table of states and everything that can happen: a cell is the next state,
*already* (it is so, or was decided otherwise for good reason: nothing happens), or *impossible*: an event is parked, a
client is refused with 409. Shipping or delivering twice is refused as well, so that no second tracking number is lost
without a word.`

const parking = `An event that cannot have happened is not guessed about: it is parked with its key, tried again as the
row of \`consumes.ts\` says, and dead when it stays impossible; nothing of its order moves until a person has looked.`

const deadline = (
  seconds: number,
) => `An order that is still pending when its deadline has passed is cancelled with the reason
\`reservation-timeout\`, and inventory gives back what it holds when it sees \`OrderCancelled\`: also when it reserves only
after that, because \`OrderPlaced\` is before it in the same partition.

- It is \`placedAt\` of \`OrderPlaced\` and \`RESERVATION_DEADLINE_SECONDS\` (${seconds}), and is kept with the order: a
  restart forgets none, and a new setting changes no order that is there.
- Both ends of it are read from the order database's clock, when the order is placed and when it is swept. A process whose
  own clock is an hour off cancels no order early and none late.
- Every instance of the order service sweeps, all the time. An order is locked while it is decided and passed over by the
  other sweepers, so one of them cancels it, once.
- A reservation that comes after the deadline and before the sweeper confirms the order.`

const proof = `The tables are tested cell by cell beside the code. [model.test.ts](../tools/src/proof/saga/model.test.ts) walks every interleaving
of clients, sweeper, deliveries and repeated deliveries over both tables, and checks at each step that stock is conserved,
and at rest that order and reservation agree; that no event meets an *impossible* cell; and that every other cell is met, so
that the tables say no more than what happens. [races.test.ts](../tools/src/proof/saga/races.test.ts) runs the same races on the two services
with Kafka and Postgres.`

/** Transitions of a table, with the inputs that lead from the one state to the other. */
function transitions(saga: Table): { from: string; to: string; inputs: string[] }[] {
  const all = Object.entries(saga).flatMap(([from, row]) =>
    Object.entries(row).flatMap(([input, cell]) =>
      nextStates(cell).map(({ to, when }) => ({ from, to, by: named(input) + when })),
    ),
  )
  const grouped = Map.groupBy(all, ({ from, to }) => `${from} ${to}`)
  return [...grouped.values()].map((same) => ({
    from: same[0]?.from as string,
    to: same[0]?.to as string,
    inputs: same.map(({ by }) => by),
  }))
}

const isState = (cell: string) => cell !== 'already' && cell !== 'impossible'

function nextStates(cell: Cell | undefined): { to: string; when: string }[] {
  if (cell === undefined) return []
  if (typeof cell === 'string') return isState(cell) ? [{ to: cell, when: '' }] : []
  return Object.entries(cell).map(([when, to]) => ({ to, when: ` (${when})` }))
}

/** A Mermaid state diagram; a state without a way out is an end. */
function diagram(saga: Table): string {
  const moves = transitions(saga)
  const ends = Object.keys(saga).filter((state) => moves.every(({ from }) => from !== state))
  const lines = [
    ...moves.map(({ from, to, inputs }) => `    ${from === 'none' ? '[*]' : from} --> ${to}: ${inputs.join(', ')}`),
    ...ends.map((state) => `    ${state} --> [*]`),
  ]
  return ['```mermaid', 'stateDiagram-v2', ...lines, '```'].join('\n')
}

function cells(saga: Table): string {
  const inputs = Object.keys(Object.values(saga)[0] ?? {})
  return table(
    ['', ...inputs.map(named)],
    Object.entries(saga).map(([state, row]) => [code(state), ...inputs.map((input) => cellText(row[input]))]),
  )
}

function cellText(cell: Cell | undefined): string {
  if (typeof cell === 'string' && !isState(cell)) return cell
  return nextStates(cell)
    .map(({ to, when }) => `**${to}**${when}`)
    .join(' or ')
}

/** Of a table's inputs, those that are events: their names begin with a capital. */
const events = (saga: Table) => Object.keys(saga.none ?? {}).filter((input) => /^[A-Z]/.test(input))

function parked(saga: Table, what: string, inputs: string[]): string[] {
  return inputs.flatMap((input) => {
    const states = Object.keys(saga).filter((state) => saga[state]?.[input] === 'impossible')
    if (states.length === 0) return []
    return `- ${code(input)} for ${what} that is ${listed(states.map(stateText), 'or')}`
  })
}

/** The events of the one side that the other has no column for. */
const unheard = (said: Readonly<Record<string, string | { announces: string }>>, saga: Table) =>
  listed(
    Object.values(said)
      .map((by) => (typeof by === 'string' ? by : by.announces))
      .filter((event) => !(event in (saga.none ?? {})))
      .map(code),
  )

const stateText = (state: string) => (state === 'none' ? 'not there' : state)
const moved = (by: number) => (by === 0 ? '' : `${by > 0 ? '+' : '−'} quantity`)
const listed = (words: string[], joint = 'and') =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} ${joint} ${words.at(-1)}`
