import { childOf, type TraceContext } from './trace.ts'

/** What a span says; names by OpenTelemetry's semantic conventions. */
export type Attributes = Record<string, string | number | boolean>

export interface SpanOptions {
  /** Whose work it is: that of a request that came, of one that goes out, of an event that is made or is handled. */
  kind: 'server' | 'client' | 'producer' | 'consumer' | 'internal'
  /** What it is a part of; without one it begins a trace. */
  parent?: TraceContext | undefined
  /** Of a batch: what each of its parts belongs to. */
  links?: readonly TraceContext[]
  attributes?: Attributes
}

/** What a piece of work failed with where nothing was thrown: a word of ours, such as `503` or `refused`. */
export class Failure {
  readonly word: string

  constructor(word: string) {
    this.word = word
  }
}

/** A piece of work with its place in a trace. Ending it twice does nothing. */
export interface Span {
  readonly context: TraceContext
  /** What is known of it only now; `name` takes the place of the first one. */
  set(attributes: Attributes, name?: string): void
  /** With what was thrown, or a {@link Failure}; undefined where it was done. */
  end(error?: unknown): void
}

/** Makes spans that go somewhere; see tracing.ts. */
export type Recorder = (name: string, options: SpanOptions) => Span

let recorder: Recorder | undefined

/** From now on spans go to `next`; undefined: nowhere. */
export function recordSpans(next: Recorder | undefined): void {
  recorder = next
}

/** Whether spans go anywhere: asked where a span for each of many parts would cost something. */
export const isTracing = (): boolean => recorder !== undefined

/** A place in a trace that is told to nobody. */
export const unrecordedSpan = (context: TraceContext): Span => ({ context, set() {}, end() {} })

/** Begins a span. Where none are recorded it is a place in the trace and nothing else, so that traces hold together all the same. */
export function startSpan(name: string, options: SpanOptions): Span {
  return recorder ? recorder(name, options) : unrecordedSpan(childOf(options.parent))
}
