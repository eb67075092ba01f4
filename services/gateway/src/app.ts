import { createServer } from 'node:http'
import { createHttp, type Service } from '@shopstream/http/edge'
import { createMetrics, type Logger, type Registry } from '@shopstream/observability'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Config, registryAccessOf } from './config.ts'
import { mergeDocuments } from './documentation.ts'
import { forwardRoutes } from './forwarding.ts'
import { watchServices } from './service-health.ts'
import { perService, variableOf } from './services.ts'
import { createUpstream } from './upstream.ts'

/** Builds the gateway: what comes from outside is passed on to the service that owns the path. */
export async function buildGateway(
  config: Readonly<Config>,
  logger: Logger,
): Promise<Service & { readonly http: FastifyInstance }> {
  const metrics = createMetrics('gateway')
  const upstreams = perService((name) =>
    createUpstream(name, {
      url: config[variableOf(name, 'URL')],
      waitMs: config.SERVICE_WAIT_MS,
      secret: config.SERVICE_IDENTITY_SECRET,
    }),
  )
  const document = mergeDocuments(Object.values(upstreams), logger)
  const watch = watchServices(Object.values(upstreams), document.forget)
  const http = await createHttp({
    service: 'gateway',
    title: 'shopstream',
    routes: [],
    checks: watch.checks,
    identitySecret: config.SERVICE_IDENTITY_SECRET,
    logger,
    metrics,
    serveMetrics: false,
    document: document.read,
    trustedProxies: config.TRUSTED_PROXIES,
  })
  if (config.CORS_ORIGINS) await allowPagesOf(config.CORS_ORIGINS, http)
  await forwardRoutes(http, upstreams)
  const registryAccess = registryAccessOf(config)
  if (registryAccess) {
    const { serveSchemaRegistry } = await import('./schema-registry/serve.ts')
    await serveSchemaRegistry(http, registryAccess)
  }
  const metricsServer = serveMetrics(metrics)

  return {
    http,
    async start() {
      watch.start()
      if (config.METRICS_PORT !== undefined) await listen(metricsServer, config.METRICS_PORT, config.METRICS_HOST)
      await http.listen({ port: config.PORT, host: config.HOST })
    },
    async stop() {
      await watch.stop()
      await http.close()
      for (const upstream of Object.values(upstreams)) upstream.close()
      metricsServer.close()
      metricsServer.closeAllConnections()
    },
  }
}

async function allowPagesOf(origin: string[], http: FastifyInstance): Promise<void> {
  const { default: cors } = await import('@fastify/cors')
  const exposedHeaders = ['location', 'etag', 'retry-after', 'x-request-id', 'idempotency-replayed']
  const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']
  // An OPTIONS that is no preflight is answered like that of any client.
  const isPreflight = ({ headers }: FastifyRequest) => headers['access-control-request-method'] !== undefined
  await http.register(cors, () => async (request: FastifyRequest) => ({
    origin,
    methods,
    exposedHeaders,
    maxAge: 600,
    preflight: isPreflight(request),
  }))
}

/** On a port of its own, so that nothing from outside can reach it. */
function serveMetrics(metrics: Registry) {
  return createServer(async (request, response) => {
    if (request.url !== '/metrics') return response.writeHead(404).end()
    response.writeHead(200, { 'content-type': metrics.contentType }).end(await metrics.metrics())
  })
}

function listen(server: ReturnType<typeof serveMetrics>, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, host, resolve)
  })
}
