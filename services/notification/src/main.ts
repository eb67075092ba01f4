import { runService } from '@shopstream/http'
import { buildNotification } from './app.ts'
import { configSchema } from './config.ts'

await runService({ name: 'notification', config: configSchema, build: buildNotification })
