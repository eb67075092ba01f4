import { runService } from '@shopstream/http/edge'
import { buildGateway } from './app.ts'
import { configSchema } from './config.ts'

await runService({ name: 'gateway', config: configSchema, build: buildGateway })
