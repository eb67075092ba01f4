import { topics } from '@shopstream/events'
import type { Acl, AclAdmin } from '@shopstream/messaging/operations'
import { aclsOf } from '../schemas/acl.ts'
import { good, plural } from '../terminal/format.ts'
import { readServices } from './services.ts'

/** The rights of infra/kafka/acls.json, one by one, with the deployment's prefix before the names of what they are for. */
export async function wantedAcls(prefix: string): Promise<Acl[]> {
  return aclsOf({ topics, wiring: await readServices() }).flatMap(({ operations, why: _, resourceName, ...row }) =>
    operations.map((operation) => ({ ...row, resourceName: prefix + resourceName, operation })),
  )
}

/** Rights on the cluster are for administrators to give and to take. */
const ofShops: readonly string[] = ['TOPIC', 'GROUP', 'TRANSACTIONAL_ID']

/**
 * Adds what is missing, and takes from the principals of the table what is not in it, if `prune`. What others may do, and
 * what anybody may do with the cluster, stays. Returns what was done, in words; repeating it does nothing.
 */
export async function putAcls(admin: AclAdmin, wanted: readonly Acl[], prune: boolean): Promise<string[]> {
  const found = await admin.list()
  const [isWanted, isFound] = [setOf(wanted), setOf(found)]
  const principals = new Set(wanted.map(({ principal }) => principal))
  const missing = wanted.filter((acl) => !isFound.has(keyOf(acl)))
  const besides = found.filter(
    (acl) => principals.has(acl.principal) && ofShops.includes(acl.resourceType) && !isWanted.has(keyOf(acl)),
  )
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
    ...linesOf(others, 'of others, and left'),
    good(`${plural(wanted.length, 'right')} of ${[...principals].join(', ')} are in place`),
  ]
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
