import { errorsOf } from '@shopstream/http'

/** The stable error codes of the notification service, beside those that every service has. */
export const errors = errorsOf({
  'staff-only': { status: 403, detail: "Only staff may list other people's notifications." },
})
