import kafkajs, { type Admin } from 'kafkajs'
import { withTimeLimit } from '../../../async.ts'
import type { Acl, AclAdmin } from '../acls.ts'
import { inWords } from '../identity.ts'
import type { BusOptions } from '../options.ts'
import { openKafka } from './bus.ts'

const { AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = kafkajs
type Codes = Record<string, number>
// Typed as enumerations of TypeScript's, which know their names by number too; they do not.
const nameOf = (codes: unknown, code: number) =>
  Object.entries(codes as Codes).find(([, each]) => each === code)?.[0] ?? String(code)
const codeOf = (codes: unknown, name: string) => (codes as Codes)[name] ?? 0

/** See `openAcls`. */
export async function createAclAdmin(options: BusOptions): Promise<AclAdmin> {
  const admin = openKafka(options).admin()
  const asAdmin = async <R>(work: (client: Admin) => Promise<R>): Promise<R> => {
    try {
      return await work(admin)
    } catch (error) {
      throw inWords(error)
    }
  }
  await asAdmin((client) => client.connect())
  return {
    async list() {
      const { resources } = await asAdmin((client) =>
        client.describeAcls({
          resourceType: AclResourceTypes.ANY,
          resourcePatternType: ResourcePatternTypes.ANY,
          operation: AclOperationTypes.ANY,
          permissionType: AclPermissionTypes.ANY,
        }),
      )
      return resources.flatMap(({ resourceType, resourceName, resourcePatternType, acls }) =>
        acls.map(({ principal, host, operation, permissionType }) => ({
          principal,
          host,
          resourceName,
          resourceType: nameOf(AclResourceTypes, resourceType),
          // Its types have no word for what it reads nevertheless.
          patternType: nameOf(ResourcePatternTypes, resourcePatternType),
          operation: nameOf(AclOperationTypes, operation),
          permissionType: nameOf(AclPermissionTypes, permissionType),
        })),
      )
    },
    async add(acls) {
      if (acls.length > 0) await asAdmin((client) => client.createAcls({ acl: acls.map(toEntry) }))
    },
    async remove(acls) {
      if (acls.length === 0) return
      const { filterResponses } = await asAdmin((client) => client.deleteAcls({ filters: acls.map(toEntry) }))
      const failed = filterResponses.find(({ errorCode }) => errorCode !== 0)
      if (failed) throw new Error(failed.errorMessage || `error ${failed.errorCode}`)
    },
    close: () => withTimeLimit(admin.disconnect(), 2_000, 'disconnecting').catch(() => undefined), // the process ends
  }
}

const toEntry = ({ principal, host, resourceName, ...acl }: Acl) => ({
  principal,
  host,
  resourceName,
  resourceType: codeOf(AclResourceTypes, acl.resourceType),
  resourcePatternType: codeOf(ResourcePatternTypes, acl.patternType),
  operation: codeOf(AclOperationTypes, acl.operation),
  permissionType: codeOf(AclPermissionTypes, acl.permissionType),
})
