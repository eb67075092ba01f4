/** Whether a value is a name in Avro: without namespace, of ASCII letters, digits and underscores. */
export const isName = (value: unknown): value is string =>
  typeof value === 'string' && /^[A-Za-z_][A-Za-z0-9_]*$/.test(value)

/** The full name of what is called so inside of a namespace. */
export const qualify = (name: string, namespace: string): string =>
  name.includes('.') || namespace === '' ? name : `${namespace}.${name}`

/** A full name without its namespace: `Money` of `shopstream.Money`. */
export const shortName = (fullName: string): string => fullName.slice(fullName.lastIndexOf('.') + 1)
