import { runService } from '@shopstream/http'
import { buildBridge } from './app.ts'
import { configSchema } from './config.ts'

await runService({ name: 'bridge', config: configSchema, build: buildBridge })
