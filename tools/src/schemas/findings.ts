import { Refusal } from '../terminal/options.ts'

/** Something that is wrong with schemas, lock, topics or tables. */
export interface Finding {
  /** Which rule found it, one of {@link rules}. */
  rule: Rule
  /** Full name of the event's record. */
  subject?: string
  /** What is wrong, whom it hits and what to do. */
  message: string
  /** The file that is wrong, from the top of the workspace. */
  path?: string
  /** Services that read the event, and that write it. */
  consumers?: readonly string[]
  producers?: readonly string[]
}

/** Every rule of `schemas check`, with what it asks. `pending`: `register` mends it. */
export const rules = {
  schema: { asks: 'each file is a schema that the codec keeps' },
  name: { asks: 'the name of a record follows from the path of its file' },
  documentation: { asks: 'each record, enum and field has a doc' },
  layout: { asks: 'files have the one layout', pending: true },
  clash: { asks: 'what has one name in TypeScript is one type, and none that is taken there, such as Date' },
  compatibility: { asks: 'each event reads, and is read by, all its registered versions (FULL_TRANSITIVE)' },
  pinned: { asks: 'SchemaRegistered never changes: all other schemas are learned by it' },
  removed: { asks: 'a registered event, and one that a service declares, has a file' },
  unregistered: { asks: 'the newest version of each event is in the lock', pending: true },
  lock: { asks: 'the lock is whole: ids ascend, versions count, fingerprints fit' },
  'lock-history': { asks: 'rows of the lock are appended and never altered' },
  golden: { asks: 'golden bytes are never altered or removed' },
  'golden-missing': { asks: 'each version has its golden bytes', pending: true },
  wiring: { asks: "the services' tables can be read, and name events and fields that exist" },
  topic: { asks: 'each event is in exactly one topic, and topics name events that exist' },
  'topic-changed': { asks: 'key, partitions, cleanup and events of a topic stay' },
  'topic-unregistered': { asks: 'each topic and its events are in the topics lock', pending: true },
} as const satisfies Record<string, { asks: string; pending?: true }>

export type Rule = keyof typeof rules

/** The rules, a line each, for a usage text. */
export function listedRules(): string {
  const width = Math.max(...Object.keys(rules).map((name) => name.length)) + 2
  return Object.entries(rules)
    .map(([name, rule]) => `  ${'pending' in rule ? '+' : ' '} ${name.padEnd(width)}${rule.asks}`)
    .join('\n')
}

/** Whether `register` mends it, so that it is no reason to refuse. */
export const isPending = ({ rule }: Finding): boolean => 'pending' in rules[rule]

/** Findings as text: a line for each file or subject, and below it what is wrong. */
export function printFindings(findings: readonly Finding[]): string {
  const groups = Map.groupBy(findings, ({ path, subject }) => path ?? subject ?? 'services')
  return [...groups]
    .map(([place, group]) => [place, ...group.map(({ rule, message }) => `  ${rule}: ${message}`)].join('\n'))
    .join('\n')
}

/** What was asked for is refused, and nothing was written; `findings` say why. */
export class Refused extends Refusal {
  readonly findings: readonly Finding[]

  constructor(findings: readonly Finding[]) {
    super(`${printFindings(findings)}\n\nRefused; nothing was written.`)
    this.name = 'Refused'
    this.findings = findings
  }
}
