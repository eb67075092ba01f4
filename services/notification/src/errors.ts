import { errorsOf } from '@shopstream/http'

/** The stable error codes of the notification service, beside those that every service has. */
export const errors = errorsOf({
  'notification-not-found': { status: 404, detail: 'There is no such notification.' },
  'not-resendable': { status: 409, detail: 'Only a mail that was sent or has failed can be sent again.' },
  'no-recipient': { status: 409, detail: 'The recipient has no address any more.' },
  'opted-out': { status: 409, detail: 'The recipient wants no mailings.' },
  'opt-out-link-invalid': { status: 404, detail: 'There is no such link. Log in to choose which mails you get.' },
  'mailing-not-found': { status: 404, detail: 'There is no such mailing.' },
  'staff-only': { status: 403, detail: "Only staff may list other people's notifications." },
})
