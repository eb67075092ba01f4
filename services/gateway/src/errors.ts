import { errorsOf } from '@shopstream/http/edge'

/** The gateway's own refusals; everything else is answered by the services. */
export const errors = errorsOf({
  'route-not-found': { status: 404, detail: 'There is no such route.' },
  'service-unavailable': { status: 503, detail: 'A service is not available now. Try again in a few seconds.' },
  'service-timeout': { status: 504, detail: 'A service did not answer in time. Whether it did the work is not known.' },
})
