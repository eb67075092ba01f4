/** A right of one principal on one thing, as brokers have it and under Kafka's own names; names as on the wire. */
export interface Acl {
  principal: string
  host: string
  /** `TOPIC`, `GROUP`, `TRANSACTIONAL_ID`, … */
  resourceType: string
  resourceName: string
  /** `LITERAL` or `PREFIXED`. */
  patternType: string
  /** `READ`, `WRITE`, … */
  operation: string
  /** `ALLOW` or `DENY`. */
  permissionType: string
}

/** Who may do what at a cluster. */
export interface AclAdmin {
  list(): Promise<Acl[]>
  add(acls: readonly Acl[]): Promise<void>
  remove(acls: readonly Acl[]): Promise<void>
  close(): Promise<void>
}
