import type { EventKind, Facts, Recipient, State } from '../tables.ts'

/** A reason to send somebody a mail. */
export interface Cause {
  kind: EventKind
  userId: string
  /** Id of the event. */
  causeId: string
  orderId?: string
  facts: Facts
  traceparent: string | null
}

/** How a notification begins: it waits for a recipient that is not known yet, and is not sent to one that was erased. */
export function firstState(recipient: Recipient | undefined): State {
  if (recipient?.erased) return 'cancelled'
  return recipient?.email ? 'queued' : 'awaiting-recipient'
}
