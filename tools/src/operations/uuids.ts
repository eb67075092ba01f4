/** As events, users and orders have them, in lower case. */
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
export const isUuid = (text: string): boolean => uuidPattern.test(text)

/** When a UUIDv7 was made; undefined for other ids. */
export function timeOfId(id: string): Date | undefined {
  if (!isUuid(id) || id[14] !== '7') return undefined
  return new Date(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16))
}
