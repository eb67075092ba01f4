export { type TestDatabase, testBroker, testDatabase } from './broker-and-database.ts'
export { type PostgresPair, startPostgresPair } from './failover.ts'
export * from './local.ts'
export { type Caller, createWorld, type World } from './world.ts'
