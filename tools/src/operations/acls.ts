import { topics } from '@shopstream/events'
import type { Acl, AclAdmin } from '@shopstream/messaging/operations'
import { aclsOf } from '../schemas/acl.ts'
import { good, plural } from '../terminal/format.ts'
import { readServices } from './services.ts'

/** Which of the shops at a cluster: what its names and its users begin with. */
export interface Shop {
  topicPrefix: string
  userPrefix: string
}

/** The rights of infra/kafka/acls.json, one by one, with the shop's prefixes before its users and the names of what they are for. */
export async function wantedAcls({ topicPrefix, userPrefix }: Shop): Promise<Acl[]> {
  return aclsOf({ topics, wiring: await readServices() }).flatMap(({ operations, why: _, ...row }) => {
    const [resourceName, principal] = [topicPrefix + row.resourceName, row.principal.replace(':', `:${userPrefix}`)]
    return operations.map((operation) => ({ ...row, resourceName, principal, operation }))
  })
}

/** Rights on the cluster are for administrators to give and to take. */
const ofShops: readonly string[] = ['TOPIC', 'GROUP', 'TRANSACTIONAL_ID']

/**
 * Adds what is missing, and takes from the principals of the table what they may besides with names of this shop, if `prune`:
 * another shop at the cluster may have the same users. What is forbidden, what others may do, and what anybody may do with
 * the cluster, stays. Returns what was done, in words; repeating it does nothing.
 */
export async function putAcls(admin: AclAdmin, shop: Shop, prune: boolean): Promise<string[]> {
  const [wanted, found] = [await wantedAcls(shop), await admin.list()]
  const [isWanted, isFound] = [setOf(wanted), setOf(found)]
  const principals = new Set(wanted.map(({ principal }) => principal))
  const missing = wanted.filter((acl) => !isFound.has(keyOf(acl)))
  const more = found.filter(
    (acl) => principals.has(acl.principal) && ofShops.includes(acl.resourceType) && !isWanted.has(keyOf(acl)),
  )
  const fateOf = fates(shop, [...new Set(wanted.map(({ resourceName }) => resourceName))])
  const { forbidden = [], besides = [], wide = [], elsewhere = [] } = Object.groupBy(more, fateOf)
  const named = new Set(wanted.map(({ resourceType, resourceName }) => `${resourceType} ${resourceName}`))
  const others = found.filter(
    ({ principal, resourceType, resourceName }) =>
      !principals.has(principal) && named.has(`${resourceType} ${resourceName}`),
  )
  await admin.add(missing)
  if (prune) await admin.remove(besides)
  return [
    ...linesOf(missing, 'added'),
    ...linesOf(besides, prune ? 'removed' : 'not in the table, and left (--prune removes it)'),
    ...linesOf(forbidden, 'forbidden, and left'),
    ...linesOf(wide, 'of more than this shop, and left'),
    ...(elsewhere.length > 0 ? [`of other shops, and left: ${plural(elsewhere.length, 'right')} of these users`] : []),
    ...linesOf(others, 'of others, and left'),
    good(`${plural(wanted.length, 'right')} of ${[...principals].join(', ')} are in place`),
  ]
}

/** What a right is that its principal has and the table does not: whose names it is for shows by their prefix alone. */
function fates({ topicPrefix }: Shop, names: readonly string[]) {
  const reachesOurs = ({ patternType, resourceName }: Acl) =>
    resourceName === '*' || (patternType === 'PREFIXED' && names.some((name) => name.startsWith(resourceName)))
  const isOurs = (acl: Acl) => {
    if (topicPrefix !== '') return acl.resourceName.startsWith(topicPrefix)
    if (acl.patternType === 'PREFIXED') return reachesOurs(acl)
    return !names.some((name) => acl.resourceName !== name && acl.resourceName.endsWith(name))
  }
  return (acl: Acl) => {
    if (acl.permissionType !== 'ALLOW') return 'forbidden'
    if (isOurs(acl)) return 'besides'
    return reachesOurs(acl) ? 'wide' : 'elsewhere'
  }
}

const keyOf = (acl: Acl) =>
  [
    acl.principal,
    acl.host,
    acl.resourceType,
    acl.patternType,
    acl.resourceName,
    acl.permissionType,
    acl.operation,
  ].join('\n')
const setOf = (acls: readonly Acl[]) => new Set(acls.map(keyOf))

/** One line for all that a principal may do with one thing. */
function linesOf(acls: readonly Acl[], what: string): string[] {
  const about = (acl: Acl) => {
    const kind = acl.patternType === 'LITERAL' ? acl.resourceType : `${acl.patternType} ${acl.resourceType}`
    const host = acl.host === '*' ? '' : ` from ${acl.host}`
    return `${kind} ${acl.resourceName}${host}`
  }
  const groups = Map.groupBy(acls, (acl) => `${acl.principal} ${acl.permissionType} ${about(acl)}`)
  return [...groups].map(([key, those]) => `${what}: ${key}: ${those.map(({ operation }) => operation).join(', ')}`)
}
