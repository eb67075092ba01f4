// What tools read: the wiring of this service. Services never import one another.
export { migrations } from './app.ts'
export { configSchema } from './config.ts'
export { consumes } from './consumes.ts'
export { produces } from './produces.ts'
