import { Type } from '@shopstream/config'
import type { Database } from '@shopstream/database'
import { type Route, reply, route } from '@shopstream/http'
import type { Tables } from './tables.ts'

const Bridge = Type.Object({
  name: Type.String(),
  direction: Type.Enum(['send', 'receive']),
  broker: Type.String({ description: 'The kind of broker: rabbitmq, redis, nats.' }),
  events: Type.Array(Type.String()),
  awaySince: Type.Optional(
    Type.String({
      format: 'date-time',
      description: 'Since when the broker takes or gives nothing, for one instance of the service at least.',
    }),
  ),
  awayReason: Type.Optional(Type.String()),
})

/** The table of the bridge service's routes. */
export const routes = (database: Database<Tables>): Route[] => [
  route({
    method: 'GET',
    url: '/v1/bridges',
    operationId: 'listBridges',
    summary: 'List the bridges, and whether their brokers are there',
    access: 'staff',
    schema: { response: { 200: Type.Object({ items: Type.Array(Bridge) }) } },
    async handle() {
      const rows = await database.query.selectFrom('bridge').selectAll().orderBy('name').execute()
      const items = rows.map(({ name, direction, kind, events, away_since, away_reason }) => ({
        name,
        direction,
        broker: kind,
        events,
        ...(away_since && { awaySince: away_since.toISOString(), awayReason: away_reason ?? '' }),
      }))
      return reply.ok({ items })
    },
  }),
]
