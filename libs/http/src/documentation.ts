import type { FastifyInstance } from 'fastify'
import { fastify } from 'fastify'
import { type TObject, type TSchema, Type } from 'typebox'
import { formTypes } from './forms.ts'
import type { Route } from './routes.ts'
import { closed, idempotencyKeyHeader, preferHeader, problemSchema } from './schemas.ts'

export interface DocumentationOptions {
  title: string
  tags?: Record<string, string>
  routes: readonly Route[]
  /** Gives the OpenAPI document in place of one made from `routes`. */
  document?: (() => Promise<object>) | undefined
}

/** What every document begins with. It is served where the API is. */
export const openApiHead = (title: string) => ({
  openapi: '3.1.0' as const,
  info: {
    title,
    version: '1',
    description: 'Errors are problem+json (RFC 9457) with a stable `code`. Unknown fields are refused.',
    contact: { name: 'shopstream' },
    license: { name: 'MIT', identifier: 'MIT' },
  },
  servers: [{ url: '/' }],
})

/**
 * Serves `/openapi.json` and `/docs`. Both come from an app of its own that is built when first asked for: the plugins
 * and the second set of routes cost a start 100 ms and 6 MB, and most processes are never asked.
 */
export function serveDocumentation(app: FastifyInstance, options: DocumentationOptions): void {
  let building: Promise<FastifyInstance> | undefined
  const pages = () => {
    building ??= buildPages(options)
    return building
  }
  const document = options.document ?? (async () => (await pages()).swagger())
  const schema = { hide: true }

  for (const url of ['/openapi.json', '/docs/json']) app.get(url, { schema }, () => document())
  for (const url of ['/docs', '/docs/*']) {
    app.get(url, { schema }, async (request, reply) => {
      const { routing } = await pages()
      reply.hijack()
      reply.raw.setHeader('x-request-id', request.id)
      routing(request.raw, reply.raw)
    })
  }
  app.addHook('onClose', async () => (await building)?.close())
}

async function buildPages({ title, tags = {}, routes }: DocumentationOptions): Promise<FastifyInstance> {
  const [swagger, ui, helmet] = await Promise.all([
    import('@fastify/swagger'),
    import('@fastify/swagger-ui'),
    import('@fastify/helmet'),
  ])
  const pages: FastifyInstance = fastify()
  pages.setValidatorCompiler(() => () => true)
  pages.setSerializerCompiler(() => JSON.stringify)
  // Without `upgrade-insecure-requests`, which would make browsers ask for scripts by https where there is none.
  await pages.register(helmet.default, {
    contentSecurityPolicy: {
      directives: { styleSrc: ["'self'", "'unsafe-inline'"], upgradeInsecureRequests: null },
    },
  })
  await pages.register(swagger.default, {
    openapi: {
      ...openApiHead(title),
      tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
    },
  })
  for (const route of routes) {
    pages.route({ method: route.method, url: route.url, schema: describe(route), handler: async () => ({}) })
  }
  await pages.register(ui.default, { routePrefix: '/docs', theme: { title } })
  await pages.ready()
  return pages
}

const accessWords = {
  anyone: 'For anyone.',
  user: 'For whoever is logged in.',
  staff: 'For staff.',
}

function describe(route: Route) {
  const { method, url, operationId, summary, waits, sheds, access, page, schema } = route
  const isRepeatable = method === 'POST' && access !== 'anyone'
  const description = [
    accessWords[access],
    isRepeatable && 'With an `Idempotency-Key` it acts once, however often it is repeated.',
    waits && 'With `Prefer: wait=N` it answers once it is decided.',
    sheds && 'It may be refused as `overloaded` for a while.',
  ]
  const { params, query, body, response } = schema
  const answers = Object.entries(response as Record<string, TSchema>).map(([status, answer]) => [
    status,
    { description: status === '201' ? 'Created' : 'Done', ...answer },
  ])
  return {
    ...(operationId && { operationId }),
    summary: access === 'staff' ? `${summary} (staff)` : summary,
    description: description.filter(Boolean).join(' '),
    tags: [url.split('/')[2]],
    ...(page && { produces: ['text/html'], ...(body && { consumes: formTypes }) }),
    ...(params && { params }),
    ...(query && { querystring: withoutDefaults(query) }),
    headers: Type.Object({
      ...(isRepeatable && idempotencyKeyHeader.properties),
      ...(waits && preferHeader.properties),
    }),
    ...(body && { body: closed(body) }),
    security: access === 'anyone' ? [] : [{ token: [] }],
    response: {
      ...Object.fromEntries(answers),
      '4xx': { description: 'Refused', content: { 'application/problem+json': { schema: problemSchema } } },
      '5xx': { description: 'Not possible now', content: { 'application/problem+json': { schema: problemSchema } } },
    },
  }
}

/** What has a default may be left out; TypeBox calls it required, because it is always there once it was read. */
function withoutDefaults(query: TObject) {
  const required = query.required?.filter((name: string) => !('default' in (query.properties[name] ?? {})))
  return { ...query, required }
}
