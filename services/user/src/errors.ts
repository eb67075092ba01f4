import { errorsOf } from '@shopstream/http'

/** The stable error codes of the user service, beside those that every service has. */
export const errors = errorsOf({
  'invalid-request': { status: 400, detail: 'The request does not keep the rules of this route.' },
  'email-taken': { status: 409, detail: 'An account with this email address exists already.' },
  'too-many-registrations': { status: 429, detail: 'Too many accounts are being made just now. Try again later.' },
  'invalid-credentials': { status: 401, detail: 'The email address or the password is wrong.' },
  'too-many-attempts': {
    status: 429,
    detail: 'Too many logins have failed for this address or from where you are. Try again later.',
  },
  'invalid-refresh-token': {
    status: 401,
    detail: 'The refresh token is unknown, used, expired or revoked. Log in again.',
  },
  'user-not-found': { status: 404, detail: 'This account does not exist any more.' },
  'no-signing-key': { status: 503, detail: 'No key signs tokens at this moment. Try again in a few seconds.' },
  busy: { status: 503, detail: 'Too many passwords are being checked just now. Try again in a few seconds.' },
})
