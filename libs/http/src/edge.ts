// What a process without a database needs: importing this loads neither kysely, pg nor the Kafka client (300 ms, 25 MB).
export type { KeyStore } from './access.ts'
export { networkOf } from './client-network.ts'
export { openApiHead } from './documentation.ts'
export { errorsOf, type FieldError, ShopError } from './errors.ts'
export { type Page, page } from './paging.ts'
export { sendProblem } from './problems.ts'
export {
  type Access,
  type Reply,
  type Route,
  type RouteDefinition,
  type RouteSchema,
  reply,
  route,
  type ShopRequest,
  type User,
} from './routes.ts'
export { runService, type Service } from './run-service.ts'
export { createHttp, type HttpOptions } from './server.ts'
