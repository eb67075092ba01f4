import { runService } from '@shopstream/http'
import { buildInventory } from './app.ts'
import { configSchema } from './config.ts'

await runService({ name: 'inventory', config: configSchema, build: buildInventory })
