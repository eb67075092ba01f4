export { type Static, type TObject, Type } from 'typebox'
export { ConfigError, readConfig } from './read-config.ts'
export { dataSettings, serviceSettings, settings } from './settings.ts'
