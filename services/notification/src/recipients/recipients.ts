import type { Message } from '@shopstream/messaging'
import type { Cause } from '../notifications/cause.ts'
import type { Recipient } from '../tables.ts'

export type UserMessage =
  | Message<'UserRegistered', 'userId' | 'email'>
  | Message<'UserProfileChanged', 'userId' | 'email'>
  | Message<'UserErased', 'userId'>
export type UserEvent = UserMessage['type']

/** What follows from a chunk of user events. */
export interface RecipientChanges {
  /** The users that changed, as they are now. */
  recipients: Recipient[]
  /** Who is to be welcomed. */
  welcomes: Cause[]
}

/** Somebody of whom nothing is known yet. */
export const unknownRecipient = (userId: string): Recipient => ({
  user_id: userId,
  email: null,
  erased: false,
  sequence: 0n,
})

/**
 * Applies user events, in order, to what is known. An event whose sequence is not above the known one has been applied
 * before or is outdated, and is ignored: so nobody is welcomed twice, whatever is delivered or published again.
 */
export function applyUserEvents(
  known: ReadonlyMap<string, Recipient>,
  messages: readonly UserMessage[],
): RecipientChanges {
  const changed = new Map<string, Recipient>()
  const welcomes: Cause[] = []
  for (const message of messages) {
    const { userId } = message.data
    const before = changed.get(userId) ?? known.get(userId) ?? unknownRecipient(userId)
    if (message.sequence <= before.sequence) continue
    changed.set(userId, evolve(before, message))
    if (message.type === 'UserRegistered') welcomes.push({ kind: 'welcome', userId, facts: {}, ...originOf(message) })
  }
  return { recipients: [...changed.values()], welcomes }
}

/** What a cause keeps of the message that is it. */
function originOf(message: Pick<Message, 'id' | 'traceparent'>): Pick<Cause, 'causeId' | 'traceparent'> {
  return { causeId: message.id, traceparent: message.traceparent ?? null }
}

function evolve(before: Recipient, message: UserMessage): Recipient {
  const sequence = message.sequence
  if (message.type === 'UserErased') return { ...before, email: null, erased: true, sequence }
  if (before.erased) return { ...before, sequence } // whatever comes later, an erased user stays erased
  return { ...before, email: message.data.email, sequence }
}
