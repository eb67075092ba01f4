/** The tables of the notification database, as migrations/ makes them. */
export interface Tables {
  recipient: Recipient
  notification: Notification
}

/** Replica of a user. Address and name are null while the user is not known yet, and again once erased. */
export interface Recipient {
  user_id: string
  email: string | null
  display_name: string | null
  erased: boolean
  /** Of the latest event applied; 0 while the user is not known yet. */
  sequence: bigint
}

export type Kind = 'welcome' | 'confirmed' | 'rejected' | 'shipped' | 'cancelled'

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
  problems: number
  next_attempt_at: Date
  last_error: string | null
  sequence: bigint
  created_at: Date
  sent_at: Date | null
}
