import { runService } from '@shopstream/http'
import { buildUser } from './app.ts'
import { configSchema } from './config.ts'

await runService({ name: 'user', config: configSchema, build: buildUser })
