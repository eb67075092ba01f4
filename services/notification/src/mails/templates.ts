import type { EventKind } from '../tables.ts'

/**
 * A mail as data. `{word}` stands for the fact of that name; the paragraph `{items}` for the list of items.
 *
 * No address here was ever confirmed: whoever registers says where mails go. So a mail holds the shop's words alone: the
 * templates, what the shop has counted and priced, and what staff write (SKUs, carriers, mailings). Text of a registered
 * person, such as a name, a reason or a shipping address, would make the shop send a stranger's words to anybody.
 */
export interface Template {
  /** No personal data and no free text: it is kept and listed, and has the name of its kind, in small letters, and of no other. */
  subject: string
  paragraphs: string[]
}

export const templates: Record<EventKind, Template> = {
  welcome: {
    subject: 'A warm welcome to shopstream',
    paragraphs: [
      'Hello,',
      'your account is ready: log in with the address that this mail was sent to.',
      'If you did not register, somebody mistyped an address and you can ignore this mail.',
    ],
  },
  confirmed: {
    subject: 'Order confirmed: {orderId}',
    paragraphs: [
      'Hello,',
      'we have reserved everything for your order {orderId} and will ship it soon:',
      '{items}',
      'Total: {total}',
    ],
  },
  rejected: {
    subject: 'Order rejected: {orderId}',
    paragraphs: [
      'Hello,',
      'we are sorry: we do not have enough in stock for your order {orderId}, and nothing of it will be sent or charged. These were short:',
      '{items}',
    ],
  },
  shipped: {
    subject: 'Order shipped: {orderId}',
    paragraphs: ['Hello,', 'your order {orderId} is on its way with {carrier}.', 'Tracking number: {trackingNumber}'],
  },
  cancelled: {
    subject: 'Order cancelled: {orderId}',
    paragraphs: ['Hello,', 'your order {orderId} was cancelled, and nothing of it will be sent or charged.'],
  },
}
