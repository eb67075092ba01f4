import { createDatabase } from '@shopstream/database'
import { newEventId } from '@shopstream/events'
import { exampleEvent, testContract } from '@shopstream/testing/contract'
import { buildBridge } from './app.ts'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { accept } from './receiving/accept.ts'
import type { Tables } from './tables.ts'

testContract({
  consumes,
  produces,
  async drive({ settings, logger }, atEnd) {
    const service = await buildBridge(settings, logger)
    atEnd(() => service.stop())
    await service.start()
    const database = createDatabase<Tables>({
      url: settings.DATABASE_URL,
      poolSize: 1,
      applicationName: 'bridge-contract',
      logger,
    })
    atEnd(() => database.close())
    const event = exampleEvent('PointsAwarded', newEventId(), {})
    await database.transaction((tx) =>
      accept(tx, { name: 'loyalty' }, [{ id: 'a-1', topic: 'shop.loyalty.v1', event: { ...event } as never }]),
    )
  },
})
