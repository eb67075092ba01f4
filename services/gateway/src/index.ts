// What tools read: the wiring of this service.
export { configSchema } from './config.ts'
export { routes } from './routes.ts'
