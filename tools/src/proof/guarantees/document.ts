import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

/** A promise of docs/guarantees.md, with the test that would fail if it broke, and a break that shows it. */
export interface Guarantee {
  /** Its heading's first word. */
  id: string
  /** The promise in a sentence. */
  promise: string
  /** File of the test, from the top of the workspace; words of its name that tell it from others, when it runs and in the file. */
  test: { file: string; name: string; asWritten: string }
  breaks: Break[]
}

/** What a `diff` block takes out of a file and what it puts there instead; the text taken out is there exactly once. */
export interface Break {
  file: string
  before: string
  after: string
}

/** The part of the code that speaks to a broker by one client; a break in it counts for that client alone. */
const adapterOf = ({ file }: Break) => /^libs\/messaging\/src\/broker\/kafka\/(kafkajs|platformatic)\//.exec(file)?.[1]
const eventCore = 'libs/messaging/'

/**
 * What can be shown with a client: the promises that have a break for it, with those breaks. With another client than the
 * usual one those of the event core alone, as nothing else knows which client there is.
 */
export function provableWith(client: string, guarantees: readonly Guarantee[], isUsual: boolean): Guarantee[] {
  return guarantees
    .map((guarantee) => ({
      ...guarantee,
      breaks: guarantee.breaks.filter((one) => (adapterOf(one) ?? client) === client),
    }))
    .filter(({ breaks }) => breaks.length > 0 && (isUsual || breaks.every(({ file }) => file.startsWith(eventCore))))
}

export const documentFile = 'docs/guarantees.md'

/** Reads the promises of docs/guarantees.md below `root`. Throws with the heading of what is not as it must be. */
export function readGuarantees(root: string): Guarantee[] {
  const sections = readFileSync(join(root, documentFile), 'utf8').split(/^### /m).slice(1)
  const guarantees = sections.map(readSection)
  const twice = guarantees.find(({ id }, place) => guarantees.findIndex((other) => other.id === id) !== place)
  if (twice) throw new Error(`${documentFile} has two promises called ${twice.id}`)
  return guarantees
}

function readSection(section: string): Guarantee {
  const [heading = ''] = section.split('\n', 1)
  const [, id, promise] = /^([a-z-]+): (.+)$/.exec(heading) ?? []
  const [, name, link] = /^Test: \[(.+)\]\((.+)\)$/m.exec(section) ?? []
  const breaks = [...section.matchAll(/^```diff\n--- (.+)\n([\s\S]*?)^```$/gm)].map(([, file = '', lines = '']) =>
    readBreak(file, lines),
  )
  if (!id || !promise)
    throw new Error(`${documentFile}: the heading "${heading}" is not of the form "an-id: a promise"`)
  if (!name || !link) throw new Error(`${documentFile}, ${id}: there is no line "Test: [name](file)"`)
  if (breaks.length === 0) throw new Error(`${documentFile}, ${id}: there is no diff block that begins with "--- FILE"`)
  return { id, promise, test: { file: normalize(join(dirname(documentFile), link)), ...readName(name) }, breaks }
}

/** Of a test that stands in a table, the page writes as code what fills its `%s`. */
const readName = (text: string) => ({ name: text.replaceAll('`', ''), asWritten: text.replace(/`[^`]+`/g, '%s') })

function readBreak(file: string, text: string): Break {
  const lines = text.split('\n').slice(0, -1)
  const without = (sign: string) =>
    lines
      .filter((line) => !line.startsWith(sign))
      .map((line) => `${line.slice(1)}\n`)
      .join('')
  return { file, before: without('+'), after: without('-') }
}

/** Applies a break to a file's text. Throws when what it takes out is not there exactly once: the code has moved on. */
export function applyBreak(text: string, { file, before, after }: Break): string {
  const found = text.split(before).length - 1
  if (found !== 1) {
    throw new Error(
      `what the break of ${file} in ${documentFile} takes out is there ${found} times; bring it up to date`,
    )
  }
  return text.replace(before, () => after)
}
