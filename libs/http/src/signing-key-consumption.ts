import { signal, sql, type Transaction } from '@shopstream/database'
import { type Message, on } from '@shopstream/messaging'
import { keysChanged } from './signing-keys.ts'

type KeyMessage =
  | Message<'SigningKeyPublished', 'keyId' | 'publicKey' | 'activeFrom' | 'expiresAt'>
  | Message<'SigningKeyRetired', 'keyId'>

/** The row of a service's `consumes.ts` that keeps its table `signing_key`. */
export const signingKeyConsumption = on(
  { SigningKeyPublished: ['keyId', 'publicKey', 'activeFrom', 'expiresAt'], SigningKeyRetired: ['keyId'] },
  storeKeys,
)

/** Stores what the last message of each key says, unless a later one is stored already; retiring keeps the key itself. */
async function storeKeys(tx: Transaction, messages: KeyMessage[]): Promise<void> {
  const latest = [...Map.groupBy(messages, ({ data }) => data.keyId).values()].map(stateAfter)
  await sql`
    insert into signing_key as stored (key_id, public_key, active_from, expires_at, retired, sequence)
    select * from unnest(
      ${latest.map((key) => key.keyId)}::text[], ${latest.map((key) => key.publicKey)}::jsonb[],
      ${latest.map((key) => key.activeFrom)}::timestamptz[], ${latest.map((key) => key.expiresAt)}::timestamptz[],
      ${latest.map((key) => key.retired)}::boolean[], ${latest.map((key) => key.sequence)}::bigint[])
    order by 1
    on conflict (key_id) do update set
      public_key = coalesce(excluded.public_key, stored.public_key),
      active_from = coalesce(excluded.active_from, stored.active_from),
      expires_at = coalesce(excluded.expires_at, stored.expires_at),
      retired = excluded.retired,
      sequence = excluded.sequence
    where excluded.sequence > stored.sequence
  `.execute(tx)
  signal(tx, keysChanged)
}

/** What the messages of one key, in any order, come to. */
function stateAfter(messages: KeyMessage[]) {
  const ordered = messages.toSorted((a, b) => Number(a.sequence - b.sequence))
  const key = ordered.findLast((message) => message.type === 'SigningKeyPublished')?.data
  const last = ordered.at(-1) as KeyMessage
  return {
    keyId: last.data.keyId,
    publicKey: key ? key.publicKey : null,
    activeFrom: key ? key.activeFrom : null,
    expiresAt: key ? key.expiresAt : null,
    retired: last.type === 'SigningKeyRetired',
    sequence: last.sequence,
  }
}
