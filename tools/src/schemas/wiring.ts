import { deadLetterTopic, type Topic } from '@shopstream/events'
import type { LockEntry } from '@shopstream/events/codec'
import type { RecordSchema } from '@shopstream/events/schema'
import { readWiring, type ServiceWiring } from '@shopstream/testing/wiring'

export { readWiring, type ServiceWiring }

/** Everything that the generated documents follow from. */
export interface Model {
  events: RecordSchema[]
  lock: LockEntry[]
  topics: readonly Topic[]
  wiring: ServiceWiring[]
}

/** Who creates the topics and makes new schemas known, before any service starts. */
export const deployment = 'deployment'

/** What libs/messaging adds to the table of each service that consumes anything: newer producers' schemas. */
const schemaConsumption: ServiceWiring['consumes'][number] = {
  event: 'SchemaRegistered',
  fields: ['schemaId', 'subject', 'schema'],
}

/** The services' tables with what the platform adds: the deployment writes schemas, and every consumer reads them. */
export function withSchemas(wiring: readonly ServiceWiring[]): ServiceWiring[] {
  return [
    { service: deployment, produces: [schemaConsumption.event], consumes: [] },
    ...wiring.map((one) => (consumesAny(one) ? { ...one, consumes: [...one.consumes, schemaConsumption] } : one)),
  ]
}

/** Whether it has a consumer group, and with it something to give up on. */
export const consumesAny = ({ consumes }: ServiceWiring): boolean => consumes.length > 0

/** The dead-letter topics that a service writes to: one for each consumer group. */
export const deadLetterTopics = (wiring: readonly ServiceWiring[]): Topic[] =>
  wiring.filter(consumesAny).map(({ service }) => deadLetterTopic(service))
