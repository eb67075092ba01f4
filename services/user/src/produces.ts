import { producer } from '@shopstream/messaging'

/** Every event this service writes, always in the transaction of what it tells about. */
export const produces = producer('user', [
  'UserRegistered',
  'UserProfileChanged',
  'SigningKeyPublished',
  'SigningKeyRetired',
])
