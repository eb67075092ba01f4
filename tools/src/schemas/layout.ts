/** Columns of a line, counted without the comma that may follow. */
const width = 160

/** A JSON value with its own words, so that no number is rounded and no key is moved. */
type Node =
  | { readonly text: string }
  | { readonly items: readonly Node[] }
  | { readonly entries: readonly (readonly [key: string, value: Node])[] }

/**
 * The text of a schema in the one layout: two spaces, what fits on a line stays there, but the fields of a record each
 * have their own. Only white space changes. Throws `SyntaxError` for what is no JSON or has a key twice.
 */
export function layOut(text: string): string {
  JSON.parse(text) // says what is wrong, and where, better than the reading below
  return `${print(read(text), '', 0)}\n`
}

const token = /\s*("(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+)/gy

function read(text: string): Node {
  const tokens = [...text.matchAll(token)].map(([, word]) => word as string)
  let at = 0
  const list = <T>(end: string, item: () => T): T[] => {
    const found: T[] = []
    if (tokens[at] === end) {
      at += 1
      return found
    }
    do found.push(item())
    while (tokens[at++] === ',')
    return found
  }
  const value = (): Node => {
    const word = tokens[at++] as string
    if (word === '[') return { items: list(']', value) }
    if (word !== '{') return { text: word }
    const keys = new Set<unknown>()
    const entries = list('}', () => {
      const key = tokens[at] as string
      if (keys.has(JSON.parse(key))) throw new SyntaxError(`the key ${key} is there twice in one object`)
      keys.add(JSON.parse(key))
      at += 2
      return [key, value()] as const
    })
    return { entries }
  }
  return value()
}

/** `used` is how many columns the line has already. */
function print(node: Node, indent: string, used: number): string {
  const line = inline(node)
  if ('text' in node || (!isRecord(node) && used + line.length <= width)) return line
  const inner = `${indent}  `
  if ('items' in node) {
    return `[\n${node.items.map((item) => inner + print(item, inner, inner.length)).join(',\n')}\n${indent}]`
  }
  const lines = node.entries.map(([key, held]) => {
    const start = `${inner}${key}: `
    return start + print(held, inner, start.length)
  })
  return `{\n${lines.join(',\n')}\n${indent}}`
}

/** Whether it is a record or contains one, or is a record's list of fields. */
function isRecord(node: Node): boolean {
  if ('text' in node) return false
  if ('items' in node) return node.items.some((item) => isRecord(item) || isField(item))
  return node.entries.some(([key, held]) => key === '"fields"' || isRecord(held))
}

const isField = (node: Node): boolean =>
  'entries' in node && ['"name"', '"type"'].every((key) => node.entries.some(([other]) => other === key))

function inline(node: Node): string {
  if ('text' in node) return node.text
  if ('items' in node) return `[${node.items.map(inline).join(', ')}]`
  if (node.entries.length === 0) return '{}'
  return `{ ${node.entries.map(([key, held]) => `${key}: ${inline(held)}`).join(', ')} }`
}
