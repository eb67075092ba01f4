import type { Generated } from '@shopstream/database'

/** The tables of the notification database, as migrations/ makes them. */
export interface Tables {
  recipient: Recipient & { opted_out_at: Generated<Date | null> } // since when the user wants no mailings
  notification: Notification
  mailing: Mailing
  resend: Resend
}

/** Replica of a user. The address is null while the user is not known yet, and again once erased. */
export interface Recipient {
  user_id: string
  email: string | null
  erased: boolean
  /** Of the latest event applied; 0 while the user is not known yet. */
  sequence: bigint
}

/** What an event asks for, by its template. */
export type EventKind = 'welcome' | 'confirmed' | 'rejected' | 'shipped' | 'cancelled'

export type Kind = EventKind | 'mailing'

/** Each lane has hands and connections of its own, so that a mail to everybody delays no mail about an order. */
export type Lane = 'urgent' | 'bulk'

/** `queued` covers mails in hand too: a claim only moves `next_attempt_at` behind the end of its lease. */
export type State = 'awaiting-recipient' | 'queued' | 'sent' | 'failed' | 'cancelled'

/** What a template's placeholders stand for: texts, and the lines of its list. */
export interface Facts {
  [placeholder: string]: string | string[] | undefined
  items?: string[]
}

export interface Notification {
  id: string
  user_id: string
  kind: Kind
  cause_id: string
  order_id: string | null
  facts: Facts
  subject: string
  traceparent: string | null
  state: State
  recipient_email: string | null
  attempts: number
  /** The claim of which nothing is written down yet. */
  open_claim: Generated<number | null>
  problems: number
  unknowns: number
  next_attempt_at: Date
  last_error: string | null
  sequence: bigint
  created_at: Date
  sent_at: Date | null
  lane: Lane
  mailing_id: string | null
  resends: number
  resent_at: Date | null
}

/** A text of staff to everybody. */
export interface Mailing {
  id: string
  subject: string
  text: string
  /** Id of the user who wrote it. */
  created_by: string
  traceparent: string | null
  /** The last user, in the order of ids, whose notification was made or not needed. */
  filled_to: string | null
  filled_at: Date | null
  recipients: Generated<number>
  created_at: Generated<Date>
}

export interface Resend {
  notification_id: string
  number: number
  former_state: 'sent' | 'failed'
  requested_by: string
  requested_at: Generated<Date>
}
