import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'

/** Calls `onLine` for each line of a stream, also for a last one without a line break. */
export function eachLine(stream: Readable, onLine: (line: string) => void): void {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  const take = (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line.replace(/\r$/, ''))
  }
  stream.on('data', (bytes: Buffer) => take(decoder.write(bytes)))
  stream.on('end', () => {
    take(decoder.end())
    if (rest) onLine(rest)
  })
  stream.on('error', () => {}) // the writer was killed; its end is reported elsewhere
}

const levels: Record<number, [word: string, colour: number]> = {
  10: ['TRACE', 90],
  20: ['DEBUG', 90],
  30: ['INFO', 32],
  40: ['WARN', 33],
  50: ['ERROR', 31],
  60: ['FATAL', 35],
}
const namedLevels: Record<string, number> = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 }
/** Of every line, or said by its prefix. */
const left = new Set([
  'level',
  'time',
  'msg',
  'service',
  'name',
  'pid',
  'hostname',
  'v',
  'err',
  'error',
  'traceId',
  'spanId',
])

/** A service's JSON log line in readable form: time, level, message, then the other fields. Other lines stay as they are. */
export function readableLine(line: string, colour: boolean): string {
  const entry = parse(line)
  if (!entry || typeof entry.msg !== 'string') return line
  const level = typeof entry.level === 'string' ? namedLevels[entry.level] : Number(entry.level)
  const [word, code] = levels[level ?? 0] ?? ['LOG', 0]
  const time = new Date(entry.time as string | number)
  const clock = Number.isNaN(time.getTime())
    ? ''
    : `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, '0')} `
  const fields = Object.entries(entry)
    .filter(([key]) => !left.has(key))
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const text = `${paint(90, clock, colour)}${paint(code, word.padEnd(5), colour)} ${entry.msg}${paint(90, fields.join(''), colour)}`
  const failure = describeError(entry.err ?? entry.error)
  return failure ? `${text}\n${failure}` : text
}

function parse(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line)
  } catch {
    return undefined // a line that only looks like JSON
  }
}

function describeError(error: unknown): string | undefined {
  if (error === undefined || error === null) return undefined
  if (typeof error !== 'object') return `    ${error}`
  const { stack, message } = error as { stack?: string; message?: string }
  return (stack ?? message ?? JSON.stringify(error))
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n')
}

/** Text in a terminal's colour (its SGR code), or as it is. */
export function paint(code: number, text: string, colour: boolean): string {
  return colour && code && text ? `\u001b[${code}m${text}\u001b[0m` : text
}

const prefixColours = [36, 35, 34, 33, 32, 96, 95]

/** Returns a function that puts a source's name before each of its lines: `order        | …`. */
export function prefixer(names: readonly string[], colour: boolean): (source: string, text: string) => string {
  const width = Math.max(...names.map((name) => name.length))
  return (source, text) => {
    const code = prefixColours[names.indexOf(source) % prefixColours.length] ?? 37
    const prefix = paint(code, `${source.padEnd(width)} |`, colour)
    return text
      .split('\n')
      .map((line) => `${prefix} ${line}`)
      .join('\n')
  }
}
