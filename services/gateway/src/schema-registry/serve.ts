import { createHash, timingSafeEqual } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import { registry } from '@shopstream/events/registry'
import { networkOf, ShopError } from '@shopstream/http/edge'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors } from '../errors.ts'
import { answersFrom } from './answers.ts'
import { RegistryError } from './errors.ts'
import { schemaIn } from './given-schema.ts'
import { countGuesses } from './password-guesses.ts'

/** Below which path of the gateway the registry is. */
const registryPath = '/schema-registry'

const mediaType = 'application/vnd.schemaregistry.v1+json'

/** Bytes; the longest of our schemas has 2,000. */
const bodyLimit = 64 * 1024

/** Who may read: those with the password, by HTTP Basic, or anyone. */
export type RegistryAccess = { user: string; password: string } | 'anonymous'

interface Asked {
  params: Record<string, string>
  /** A parameter that is given twice is a list. */
  query: Record<string, string | string[]>
  body: unknown
}

type Answer = (asked: Asked) => unknown

/**
 * Every route, below {@link registryPath}. Query parameters of Confluent's API that are not named here are accepted and
 * change nothing: all schemas are compared in normal form, and none was ever deleted.
 */
function routesOf(answers: ReturnType<typeof answersFrom>): [method: string, path: string, answer: Answer][] {
  const p = (name: string) => (asked: Asked) => asked.params[name] ?? ''
  const subject = p('subject')
  const version = p('version')
  const id = p('id')
  // Python's client writes True
  const flag = (name: string) => (asked: Asked) => String(asked.query[name]).toLowerCase() === 'true'
  const global = flag('defaultToGlobal')
  const verbose = flag('verbose')
  const latestOnly = flag('latestOnly')
  const deletedOnly = (asked: Asked) => flag('deletedOnly')(asked) || flag('deleted_only')(asked)
  const listed = (list: (asked: Asked) => unknown[]) => (asked: Asked) =>
    deletedOnly(asked) ? [] : paged(list(asked), asked.query)
  const prefix = ({ query }: Asked) => String(query.subjectPrefix ?? '').replace(anyContext, '')
  return [
    ['GET', '/', () => ({})],
    ['GET', '/contexts', () => ['.']],
    ['GET', '/v1/metadata/id', () => cluster],
    ['GET', '/subjects', listed((asked) => answers.subjects(prefix(asked)))],
    ['POST', '/subjects/:subject', (asked) => answers.lookup(subject(asked), schemaIn(asked.body))],
    ['GET', '/subjects/:subject/versions', listed((asked) => answers.versions(subject(asked)))],
    ['POST', '/subjects/:subject/versions', (asked) => answers.register(subject(asked), schemaIn(asked.body))],
    ['GET', '/subjects/:subject/versions/:version', (asked) => answers.version(subject(asked), version(asked))],
    [
      'GET',
      '/subjects/:subject/versions/:version/schema',
      (asked) => answers.versionSchema(subject(asked), version(asked)),
    ],
    [
      'GET',
      '/subjects/:subject/versions/:version/referencedby',
      (asked) => answers.referencedBy(subject(asked), version(asked)),
    ],
    [
      'POST',
      '/compatibility/subjects/:subject/versions',
      (asked) => answers.compatibility(subject(asked), undefined, schemaIn(asked.body), verbose(asked)),
    ],
    [
      'POST',
      '/compatibility/subjects/:subject/versions/:version',
      (asked) => answers.compatibility(subject(asked), version(asked), schemaIn(asked.body), verbose(asked)),
    ],
    ['GET', '/schemas', listed((asked) => answers.schemas(prefix(asked), latestOnly(asked)))],
    ['GET', '/schemas/types', () => ['AVRO']],
    ['GET', '/schemas/ids/:id', (asked) => answers.schema(id(asked))],
    ['GET', '/schemas/ids/:id/schema', (asked) => answers.schemaText(id(asked))],
    ['GET', '/schemas/ids/:id/subjects', (asked) => answers.usesOf(id(asked)).map((use) => use.subject)],
    ['GET', '/schemas/ids/:id/versions', (asked) => answers.usesOf(id(asked))],
    ['GET', '/config', () => answers.config()],
    ['GET', '/config/:subject', (asked) => answers.subjectConfig(subject(asked), global(asked))],
    ['GET', '/mode', () => answers.mode()],
    ['GET', '/mode/:subject', (asked) => answers.subjectMode(subject(asked), global(asked))],
    ['PUT', '/config', answers.readOnly],
    ['PUT', '/config/:subject', answers.readOnly],
    ['PUT', '/mode', answers.readOnly],
    ['PUT', '/mode/:subject', answers.readOnly],
    ['DELETE', '/config', answers.readOnly],
    ['DELETE', '/config/:subject', answers.readOnly],
    ['DELETE', '/mode/:subject', answers.readOnly],
    ['DELETE', '/subjects/:subject', answers.readOnly],
    ['DELETE', '/subjects/:subject/versions/:version', answers.readOnly],
  ]
}

/** `:*:` before a prefix asks for all contexts, `:.:` for the only one that there is. */
const anyContext = /^:[*.]?:/

/** Who asks for the cluster's id wants to know whether two addresses are of one registry. */
const cluster = { id: '', scope: { path: [], clusters: { 'schema-registry-cluster': 'shopstream' } } }

/** Confluent's paging: `offset` from 0, and a `limit` below 1 is none. */
function paged(list: unknown[], { offset, limit }: Asked['query']): unknown[] {
  const [from, count] = [Number(offset), Number(limit)]
  const rest = from > 0 ? list.slice(from) : list
  return count > 0 ? rest.slice(0, count) : rest
}

/** Serves the schemas of this build to clients of Confluent's Schema Registry, with its paths, answers and errors. */
export async function serveSchemaRegistry(app: FastifyInstance, access: RegistryAccess): Promise<void> {
  const routes = routesOf(answersFrom(registry))
  await app.register(
    async (scope) => {
      scope.removeAllContentTypeParsers()
      scope.addContentTypeParser('*', { parseAs: 'string' }, (_, text, done) => {
        try {
          done(null, text === '' ? null : JSON.parse(String(text)))
        } catch (error) {
          done(new RegistryError(42201, `The body is no JSON: ${(error as Error).message}`))
        }
      })
      if (access !== 'anonymous') scope.addHook('onRequest', requirePassword(access))
      scope.setErrorHandler((error: Error, request, reply) => refuse(error, request, reply))
      scope.setNotFoundHandler((request, reply) => refuse(errors['route-not-found'](), request, reply))
      for (const [method, url, answer] of routes) {
        scope.route({
          method: method as 'GET',
          url,
          bodyLimit,
          handler: (request, reply) =>
            reply.type(mediaType).send(
              JSON.stringify(
                answer({
                  params: request.params as Asked['params'],
                  query: request.query as Asked['query'],
                  body: request.body,
                }),
              ),
            ),
        })
      }
    },
    { prefix: registryPath },
  )
}

function refuse(error: Error & { statusCode?: number }, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const isOurs = error instanceof RegistryError || error instanceof ShopError
  const status = isOurs ? error.status : (error.statusCode ?? 500)
  if (status >= 500) request.log.error({ err: error }, 'the schema registry failed')
  if (status === 401) reply.header('www-authenticate', 'Basic realm="schema registry"')
  if (error instanceof RegistryError && error.retryAfter) reply.header('retry-after', String(error.retryAfter))
  const error_code = error instanceof RegistryError ? error.code : status
  return reply
    .code(status)
    .type(mediaType)
    .send(JSON.stringify({ error_code, message: wordsFor(error, status) }))
}

/** As Confluent's has them where no schema is concerned. */
function wordsFor(error: Error, status: number): string {
  if (status >= 500) return 'Internal Server Error'
  return error instanceof ShopError ? `HTTP ${status} ${STATUS_CODES[status]}` : error.message
}

/** Beyond the limit of guesses even the right password is not tried: otherwise the answer would confirm a guess. */
function requirePassword({ user, password }: { user: string; password: string }) {
  const guesses = countGuesses()
  const right = digest(`${user}:${password}`)
  return async ({ headers, ip }: FastifyRequest): Promise<void> => {
    const given = /^Basic (.+)$/i.exec(headers.authorization ?? '')?.[1]
    if (given === undefined) throw new RegistryError(40101, 'Unauthorized')
    const client = networkOf(ip)
    const seconds = guesses.secondsUntil(client)
    if (seconds > 0) throw new RegistryError(42901, 'Too many wrong passwords', seconds)
    if (timingSafeEqual(digest(Buffer.from(given, 'base64').toString()), right)) return
    guesses.failed(client)
    throw new RegistryError(40101, 'Unauthorized')
  }
}

/** Equal lengths for the comparison, whatever is given. */
const digest = (text: string) => createHash('sha256').update(text).digest()
