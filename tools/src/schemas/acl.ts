import { deadLetterTopic, type EventName, type Topic } from '@shopstream/events'
import { consumesAny, deployment, type Model, type ServiceWiring, withSchemas } from './wiring.ts'

/** Permissions of one principal on one topic, consumer group or publisher's name, under the names of Kafka's own ACLs. */
export interface Acl {
  principal: string
  resourceType: 'TOPIC' | 'GROUP' | 'TRANSACTIONAL_ID'
  resourceName: string
  patternType: 'LITERAL' | 'PREFIXED'
  permissionType: 'ALLOW'
  host: '*'
  operations: Operation[]
  /** What it is for. */
  why: string
}

type Operation = 'READ' | 'WRITE' | 'DESCRIBE' | 'CREATE' | 'ALTER' | 'ALTER_CONFIGS'

/**
 * `infra/kafka/acls.json`: what each principal may do, and nothing beyond what libs/messaging asks of the broker.
 * Nothing uses transactions, and a relay that is fenced by its name needs that name alone (KIP-679), so no principal gets a
 * permission on the cluster.
 */
export function printAcls(model: Model): string {
  const text = JSON.stringify({ acls: aclsOf(model) }, null, 2)
  // operations on one line, as biome has them
  return `${text.replaceAll(/\[\s+("[A-Z_]+"(?:,\s+"[A-Z_]+")*)\s+\]/g, (_, list: string) => `[${list.replaceAll(/\s+/g, ' ')}]`)}\n`
}

/** Who runs `npm run shop`. */
const operator = 'operator'

/** The rows of {@link printAcls}: the deployment's, then each service's, one per topic and group, then the operators'. */
export function aclsOf({ topics, wiring }: Pick<Model, 'topics' | 'wiring'>): Acl[] {
  // every service gets a dead-letter topic, also one that has nothing to give up on yet
  const deployed = [...topics, ...wiring.map(({ service }) => deadLetterTopic(service))]
  const [{ produces: announced = [] } = {}, ...services] = withSchemas(wiring)
  return [
    ...deployed.map((topic) => deploymentAcl(topic, announced)),
    ...services.flatMap((service) => serviceAcls(topics, service)),
    ...deployed.map((topic) => operatorAcl(topic, announced)),
    ...services.flatMap((service) => groupAcls(operator, service, 'shows how far it is, and moves it back')),
  ]
}

/** `grow` adds partitions, and takes the states of keys to their new ones, where topics keep states. */
function operatorAcl({ name, cleanup, events }: Topic, announced: readonly EventName[]): Acl {
  if (events.some((event) => announced.includes(event)))
    return acl(operator, 'TOPIC', name, ['READ', 'DESCRIBE'], 'reads it')
  const moves = cleanup === 'compact'
  const why = moves ? 'reads it, and grows it with its states' : 'reads it, and grows it'
  return acl(operator, 'TOPIC', name, ['READ', 'DESCRIBE', 'ALTER', ...(moves ? write : [])], why)
}

function deploymentAcl({ name, events }: Topic, announced: readonly EventName[]): Acl {
  const writes = events.some((event) => announced.includes(event))
  const why = writes ? 'creates and configures it, and makes schemas known' : 'creates and configures it'
  return acl(deployment, 'TOPIC', name, ['CREATE', 'DESCRIBE', 'ALTER_CONFIGS', ...(writes ? write : [])], why)
}

const write: Operation[] = ['WRITE']

/** Its own consumer group, and those of its bridges, whose names only a deployment knows. */
const groupAcls = (who: string, { service, forwards }: ServiceWiring, why: string): Acl[] => [
  acl(who, 'GROUP', service, ['READ', 'DESCRIBE'], why),
  ...(forwards
    ? [{ ...acl(who, 'GROUP', `${service}-`, ['READ', 'DESCRIBE'], why), patternType: 'PREFIXED' as const }]
    : []),
]

function serviceAcls(topics: readonly Topic[], wiring: ServiceWiring): Acl[] {
  const { service, produces, consumes, forwards = [] } = wiring
  const own = topics.flatMap(({ name, events }) => {
    const written = events.filter((event) => produces.includes(event))
    const read = events.filter((event) => consumes.some((row) => row.event === event))
    const handedOn = events.filter((event) => forwards.includes(event))
    const isRead = read.length + handedOn.length > 0
    const operations: Operation[] = [...(written.length ? write : []), ...(isRead ? (['READ'] as const) : [])]
    if (operations.length === 0) return []
    const why = [told('produces', written), told('consumes', read), told('hands on', handedOn)]
      .filter((text) => text !== '')
      .join('; ')
    return [acl(service, 'TOPIC', name, [...operations, 'DESCRIBE'], why)]
  })
  const publishes = produces.length > 0 || consumesAny(wiring)
  // known to brokers as a transactional id; with KafkaJS it is not used
  const relay = acl(
    service,
    'TRANSACTIONAL_ID',
    `${service}-relay`,
    ['WRITE', 'DESCRIBE'],
    'fences a relay that was frozen',
  )
  if (!consumesAny(wiring)) return publishes ? [...own, relay] : own
  return [
    ...own,
    relay,
    acl(service, 'TOPIC', deadLetterTopic(service).name, ['WRITE', 'DESCRIBE'], 'copies what it gave up on'),
    // joining, committing and asking for committed offsets
    ...groupAcls(service, wiring, 'its consumer group'),
  ]
}

const told = (verb: string, events: readonly EventName[]) => (events.length ? `${verb} ${events.join(', ')}` : '')

const acl = (
  service: string,
  resourceType: Acl['resourceType'],
  resourceName: string,
  operations: Operation[],
  why: string,
): Acl => ({
  principal: `User:${service}`,
  resourceType,
  resourceName,
  patternType: 'LITERAL',
  permissionType: 'ALLOW',
  host: '*',
  operations,
  why,
})
