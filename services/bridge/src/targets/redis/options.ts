import { type Static, Type } from '@shopstream/config'
import { type Claim, kindsOf, namedBy, type OfRow, strayNames, urlVariable, type Written } from '../target.ts'

export const usualStream = 'shop:{topic}'
export const usualLength = 100_000

const name = (description: string) => Type.String({ minLength: 1, maxLength: 200, description })

export const outOptions = Type.Object(
  {
    url: urlVariable('REDIS_URL'),
    stream: Type.Optional(
      name('the key of a stream: {aggregate}, {event} and {topic} stand for those; default shop:{topic}'),
    ),
    groups: Type.Optional(
      Type.Array(name('a consumer group, in whose name nothing is dropped that it has not acknowledged'), {
        uniqueItems: true,
        maxItems: 100,
        description: 'a list of consumer groups',
      }),
    ),
    queue: Type.Optional(name("for the form celery, in place of a stream: the name of a queue of Celery's")),
    priority: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 9,
        description: "from 0 (default, first) to 9, in Kombu's steps 0, 3, 6, 9",
      }),
    ),
    maxLength: Type.Optional(
      Type.Integer({ minimum: 1, description: 'a whole number of entries, from which on it is full; default 100,000' }),
    ),
    replicas: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100,
        description: 'a whole number: how many replicas have to hold an event as well',
      }),
    ),
  },
  { additionalProperties: false },
)
export type OutletOptions = Readonly<Static<typeof outOptions>>

/** What options lack together, or with the form of their row. */
export function outProblems(options: Written, { form }: OfRow): string[] {
  const { stream, groups, queue, priority } = options
  const isTask = form === 'celery'
  return [
    ...(queue !== undefined && stream !== undefined ? ['has both stream and queue: one of them'] : []),
    ...(queue !== undefined && groups !== undefined ? ['has groups, which a queue has not: they are of a stream'] : []),
    ...(queue === undefined && priority !== undefined ? ['has priority, which a stream has not'] : []),
    ...(queue !== undefined && !isTask ? ["has queue, which is Celery's: it needs form: celery"] : []),
    ...(queue === undefined && isTask ? ['lacks queue, from which workers take tasks: such as queue: celery'] : []),
    ...strayNames(options, 'stream', ['{aggregate}', '{event}', '{topic}']),
  ]
}

/** What one row drops from a stream another may still keep for its groups. */
export function outClaims(options: Written, row: OfRow): Claim[] {
  const { stream = usualStream, groups = [], maxLength = usualLength, queue } = options
  if (typeof stream !== 'string' || !Array.isArray(groups) || queue !== undefined) return []
  const as = JSON.stringify({ groups: groups.toSorted(), maxLength })
  const places = new Set(kindsOf(row).map((of) => `stream ${namedBy(stream, of)}`))
  return [...places].flatMap((place) => [
    { place, does: 'sends into' },
    { place, does: 'declares', as },
  ])
}

export const inOptions = Type.Object(
  {
    url: urlVariable('REDIS_URL'),
    stream: name('the key of a stream'),
    group: Type.Optional(name('a consumer group, which is made where it is missing; default shopstream')),
    count: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 10_000, description: 'entries in hand at the most, from 1 to 10,000' }),
    ),
    claimAfterSeconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 86_400,
        description: 'seconds after which what a reader holds is taken from it; default 60',
      }),
    ),
  },
  { additionalProperties: false },
)

export const usualGroup = 'shopstream'

export const inClaims = ({ stream, group = usualGroup }: Written): Claim[] =>
  typeof stream === 'string' && typeof group === 'string'
    ? [
        { place: `stream ${stream} as group ${group}`, does: 'reads' },
        { place: `stream ${stream}`, does: 'receives from' },
      ]
    : []
