import { runService } from '@shopstream/http'
import { buildOrder } from './app.ts'
import { configSchema } from './config.ts'

await runService({ name: 'order', config: configSchema, build: buildOrder })
