import { newEventId } from '@shopstream/events'
import { eventually } from '@shopstream/testing'
import { exampleEvent, testContract } from '@shopstream/testing/contract'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { startSmtpStub } from './sending/smtp-stub.ts'
import { startNotification } from './testing.ts'

testContract({
  consumes,
  produces,
  async drive(world, atEnd) {
    await world.publishSigningKey()
    const smtp = await startSmtpStub({
      recipient: (address) => (address === 'gone@example.com' ? '550 5.1.1 no such user' : '250 ok'),
    })
    atEnd(smtp.close)
    const service = await startNotification(world, smtp.url)
    atEnd(service.stop)
    await eventually('readiness', async () => (await service.get('/readyz')).status === 200)
    for (const email of ['zoe@example.com', 'gone@example.com']) {
      const userId = newEventId()
      await world.publish(exampleEvent('UserRegistered', userId, { userId, email }))
    }
  },
})
