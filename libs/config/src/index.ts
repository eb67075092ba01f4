export { type Static, type TObject, Type } from 'typebox'
export { type Challenge, challengeFor, isChallenge, proofOf } from './identity.ts'
export { ConfigError, describeSettings, readConfig } from './read-config.ts'
export { dataSettings, kafkaIdentitySettings, serviceSettings, settings } from './settings.ts'
