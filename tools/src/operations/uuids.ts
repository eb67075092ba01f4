import { msOfId } from '@shopstream/events'

/** As events, users and orders have them, in lower case. */
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
export const isUuid = (text: string): boolean => uuidPattern.test(text)

/** When a UUIDv7 was made; undefined for other ids. */
export function timeOfId(id: string): Date | undefined {
  const ms = isUuid(id) ? msOfId(id) : undefined
  return ms === undefined ? undefined : new Date(ms)
}
