import { openApiHead } from '@shopstream/http/edge'
import type { Logger } from '@shopstream/observability'
import { type ServiceName, serviceOf } from './services.ts'
import type { Upstream } from './upstream.ts'

/** The parts of an OpenAPI document that are merged. */
interface OpenApi {
  paths?: Record<string, object>
  tags?: { name: string }[]
  components?: Record<string, Record<string, unknown>>
}

/** One OpenAPI document for the whole API, made of the services' own. */
export interface MergedDocument {
  /** What is known now; asks the services whose document is missing or may have changed. */
  read(): Promise<object>
  /** The service was started anew, perhaps in another version. */
  forget(service: ServiceName): void
}

export function mergeDocuments(upstreams: readonly Upstream[], logger: Logger): MergedDocument {
  const known = new Map<ServiceName, OpenApi>()
  const stale = new Set(upstreams.map(({ name }) => name))

  async function refresh({ name, getJson }: Upstream): Promise<void> {
    try {
      const { status, body } = await getJson('/openapi.json')
      if (status !== 200) throw new Error(`answered ${status}`)
      known.set(name, body as OpenApi)
      stale.delete(name)
    } catch (error) {
      logger.warn({ err: error, upstream: name }, 'the API document of a service cannot be had now')
    }
  }

  return {
    async read() {
      await Promise.all(upstreams.filter(({ name }) => stale.has(name)).map(refresh))
      return merge(upstreams.map(({ name }) => known.get(name) ?? {}))
    },
    forget: (service) => void stale.add(service),
  }
}

function merge(documents: readonly OpenApi[]): object {
  const tags = new Map(documents.flatMap(({ tags = [] }) => tags.map((tag) => [tag.name, tag])))
  const components: Record<string, Record<string, unknown>> = {}
  for (const [kind, parts] of documents.flatMap((document) => Object.entries(document.components ?? {}))) {
    components[kind] = { ...components[kind], ...parts }
  }
  const paths = documents.flatMap(({ paths = {} }) => Object.entries(paths))
  return {
    ...openApiHead('shopstream'),
    // Only what the gateway forwards.
    paths: Object.fromEntries(paths.filter(([path]) => serviceOf(path) !== undefined)),
    tags: [...tags.values()],
    components,
  }
}
