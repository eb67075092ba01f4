import { readdirSync, readFileSync } from 'node:fs'
import { serviceNames } from '../services.ts'

/** Prints a line. */
export type Say = (line: string) => void

/** Minimum, median, 95th percentile and maximum of some figures, rounded to a tenth. */
export function spread(figures: readonly number[]) {
  const sorted = figures.toSorted((a, b) => a - b)
  const at = (share: number) =>
    Math.round((sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0) * 10) / 10
  return { min: at(0), median: at(0.5), p95: at(0.95), max: at(1) }
}

export const inWords = ({ min, median, p95, max }: ReturnType<typeof spread>, unit: string) =>
  `median ${median} ${unit} (${min} to ${max}, 95 % within ${p95})`

interface Process {
  pid: number
  parent: number
  command: string
}

/** Processes of this machine; Linux only, none elsewhere. */
function processes(): Process[] {
  const pids = safely(() => readdirSync('/proc').filter((name) => /^\d+$/.test(name))) ?? []
  return pids.flatMap((pid) => {
    const stat = safely(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
    const command = safely(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '))
    if (!stat || !command) return [] // it has ended meanwhile, or is of the kernel
    return [{ pid: Number(pid), parent: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]), command }]
  })
}

/** What `read` returns; undefined when the process it asks about has gone. */
function safely<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** A process and all below it. */
export function treeOf(root: number): Process[] {
  const all = processes()
  const within = new Set([root])
  for (let size = 0; size !== within.size; ) {
    size = within.size
    for (const { pid, parent } of all) if (within.has(parent)) within.add(pid)
  }
  return all.filter(({ pid }) => within.has(pid))
}

const parts: [string, RegExp][] = [
  ['load generator', /bench\/load\.ts/],
  ['gateway', /bench\/usual\/gateway/],
  ['order', /bench\/usual\/order/],
  ['inventory', /bench\/usual\/inventory/],
  ['notification', /bench\/usual\/notification/],
  ['workflows', /bench\/workflow\//],
  ['gunicorn', /-m gunicorn/],
  ['Celery', /-m celery/],
  ['RabbitMQ', /rabbitmq/],
  ...['gateway', ...serviceNames].map((name): [string, RegExp] => [name, new RegExp(`services/${name}/`)]),
  ['Kafka', /kafka\.Kafka|java/],
  ['Postgres', /postgres/],
]

/** The part of the shop that a process is. */
const partOf = ({ command }: Process) => parts.find(([, pattern]) => pattern.test(command))?.[0] ?? 'npm and the stack'

/** Proportional set size of some processes by part, in MB: memory that several share is counted in parts. */
export function memoryOf(tree: readonly Process[]): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const process of tree) {
    const rollup = safely(() => readFileSync(`/proc/${process.pid}/smaps_rollup`, 'utf8')) ?? ''
    const kilobytes = Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0)
    sums[partOf(process)] = (sums[partOf(process)] ?? 0) + kilobytes / 1_024
  }
  return Object.fromEntries(Object.entries(sums).map(([part, megabytes]) => [part, Math.round(megabytes)]))
}

/** CPU time that some processes have used, by part, in seconds. */
export function cpuOf(tree: readonly Process[]): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const process of tree) {
    const stat = safely(() => readFileSync(`/proc/${process.pid}/stat`, 'utf8')) ?? ''
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const ticks = Number(fields[11] ?? 0) + Number(fields[12] ?? 0) // user and system time, 100 a second
    sums[partOf(process)] = (sums[partOf(process)] ?? 0) + ticks / 100
  }
  return sums
}

/** What was used between two readings, by part, for each of `count`. */
export const usedPer = (count: number, before: Record<string, number>, after: Record<string, number>) =>
  Object.fromEntries(Object.entries(after).map(([part, used]) => [part, (used - (before[part] ?? 0)) / count]))

export const total = (figures: Record<string, number>) =>
  Object.values(figures).reduce((sum, figure) => sum + figure, 0)

export const listed = (figures: Record<string, number>, unit: string) =>
  Object.entries(figures)
    .toSorted(([, a], [, b]) => b - a)
    .map(([part, figure]) => `${part} ${Math.round(figure * 100) / 100}${unit}`)
    .join(', ')
