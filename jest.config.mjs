/** One Jest run for the whole workspace; real Kafka and Postgres are started once, by globalSetup. */
export default {
  rootDir: import.meta.dirname,
  roots: ['<rootDir>/libs', '<rootDir>/services', '<rootDir>/tools'],
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  modulePathIgnorePatterns: ['<rootDir>/services/[^/]+/dist/'], // a bundle's package.json has its service's name
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '\\.ts$': [
      '@swc/jest',
      {
        jsc: { parser: { syntax: 'typescript' }, target: 'es2024', experimental: { keepImportAttributes: true } },
        module: { type: 'es6' },
      },
    ],
  },
  testEnvironment: 'node',
  globalSetup: '<rootDir>/libs/testing/src/jest/global-setup.ts',
  globalTeardown: '<rootDir>/libs/testing/src/jest/global-teardown.ts',
  testSequencer: '<rootDir>/libs/testing/src/jest/sequencer.mjs',
  testTimeout: 60_000,
  maxWorkers: 2, // a third makes waits of e2e tests run out of time on 2 cores, and nothing faster
  forceExit: true, // what a failed test has left open must not keep the run from ending
}
