import type { Transaction } from '@shopstream/database'
import type { Logger } from '@shopstream/observability'
import type { Static, TObject, TSchema } from 'typebox'

/** What a repeated request is recognised by. */
export interface IdempotentRequest {
  userId: string
  key: string
  hash: Buffer
}

/** Who may call a route: anyone, whoever has a valid access token, or staff only. */
export type Access = 'anyone' | 'user' | 'staff'

/** The caller, as the access token says. */
export interface User {
  id: string
  roles: string[]
  /** The login (refresh family) that the token came from. */
  sessionId: string
}

/**
 * What a route takes and gives. Objects in bodies and queries are closed: unknown fields are refused. Query and path
 * are converted from text to the schema's types, bodies are not. `Type.Null()` is the schema of an answer without body.
 */
export interface RouteSchema {
  params?: TObject
  query?: TObject
  headers?: TObject
  body?: TSchema
  /** By status; only answers that are no errors. */
  response: Record<number, TSchema>
}

type Part<S extends RouteSchema, Name extends keyof RouteSchema> = S[Name] extends TSchema ? Static<S[Name]> : undefined

/** An answer that fits one of the route's `response` schemas. */
export type Reply<S extends RouteSchema = RouteSchema> = {
  [Status in keyof S['response'] & number]: {
    status: Status
    headers?: Record<string, string>
    /** True for an earlier answer to the same Idempotency-Key. */
    replayed?: boolean
  } & (null extends Static<S['response'][Status]>
    ? { body?: Static<S['response'][Status]> | undefined }
    : { body: Static<S['response'][Status]> })
}[keyof S['response'] & number]

/** What of a request has its effect with others. */
export interface GroupedRequest<Input> {
  input: Input
  /** What a repetition of it is recognised by, if anything. */
  repeatable: IdempotentRequest | undefined
}

/** Made by `effectGroup`. */
export interface EffectGroup<Input> {
  run(request: GroupedRequest<Input>): Promise<Reply>
}

/** One request to a route with the schema `S`. */
export interface ShopRequest<S extends RouteSchema = RouteSchema> {
  readonly params: Part<S, 'params'>
  readonly query: Part<S, 'query'>
  readonly body: Part<S, 'body'>
  readonly headers: Part<S, 'headers'> extends undefined
    ? Record<string, string | string[] | undefined>
    : Part<S, 'headers'>
  /** The caller. Throws on a route that is open to anyone. */
  readonly user: User
  readonly isStaff: boolean
  /** The request id, also in the answer's `X-Request-Id`. */
  readonly id: string
  /** The IP address of the client at the gateway. Personal data: for limits, and never in a log. */
  readonly clientAddress: string
  readonly log: Logger
  /** Aborted when the client has gone or the service stops: do not wait any longer. */
  readonly signal: AbortSignal
  /** Seconds (1-30) of `Prefer: wait=N`; reading it makes the answer say that the preference was applied. */
  readonly waitSeconds: number | undefined
  /**
   * Runs `work` in one transaction and returns its answer. For an authenticated POST with an `Idempotency-Key` the
   * answer is kept in the same transaction for 24 h, and a repeated request gets it again (`replayed`) without a
   * second effect. What `work` throws undoes everything and is not kept.
   * Throws `idempotency-key-reused` (422) and `request-in-progress` (409).
   */
  effect(work: (tx: Transaction) => Promise<Reply<S>>): Promise<Reply<S>>
  /** As `effect`, in one transaction with requests that come at the same time; see `effectGroup`. */
  effectIn<Input>(group: EffectGroup<Input>, input: Input): Promise<Reply<S>>
  /** Keeps a newer answer under this request's Idempotency-Key, as after waiting; does nothing for a replayed one. */
  amend(reply: Reply<S>): Promise<void>
}

/** A row of a service's `routes.ts`. */
export interface RouteDefinition<S extends RouteSchema> {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Path with parameters as `:name`. */
  url: string
  /** Its name in generated clients; unique in the whole API, and stable. */
  operationId?: string
  /** One line for the API's documentation. */
  summary: string
  /** Documents that the answer may wait, see {@link ShopRequest.waitSeconds}. */
  waits?: true
  access: Access
  /** For people with a browser: its answers are HTML (the handler says so), and its body may come as a form. */
  page?: true
  /**
   * It makes new work: `effect` refuses it with 503 `overloaded` while this service cannot get rid of the events it has,
   * except for a repeated request, which gets its first answer.
   */
  sheds?: true
  schema: S
  handle(request: ShopRequest<S>): Promise<Reply<S>>
}

/** A route of any schema. */
// biome-ignore lint/suspicious/noExplicitAny: a table holds routes of different schemas; each was checked by `route`
export type Route = RouteDefinition<any>

/** Declares a route; its handler's types come from its schema. */
export function route<const S extends RouteSchema>(definition: RouteDefinition<S>): Route {
  return definition
}

/** Answers by their meaning. */
export const reply = {
  ok: <Body>(body: Body, headers: Record<string, string> = {}) => ({ status: 200 as const, body, headers }),
  /** `location` is the path of what was created, where it has one. */
  created: <Body>(body: Body, location?: string) => ({
    status: 201 as const,
    body,
    headers: (location === undefined ? {} : { location }) as Record<string, string>,
  }),
  /** `location` is the path by which to see what becomes of it. */
  accepted: <Body>(body: Body, location?: string) => ({
    status: 202 as const,
    body,
    headers: (location === undefined ? {} : { location }) as Record<string, string>,
  }),
  noContent: () => ({ status: 204 as const, headers: {} as Record<string, string> }),
}
