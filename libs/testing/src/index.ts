export { type TestDatabase, testBroker, testDatabase } from './broker-and-database.ts'
export * from './local.ts'
export { type Caller, createWorld, type World } from './world.ts'
