import { createDatabase, sql } from '@shopstream/database'
import { eventually } from '@shopstream/testing'
import { testContract } from '@shopstream/testing/contract'
import { consumes } from './consumes.ts'
import { produces } from './produces.ts'
import { startUser } from './testing.ts'

testContract({
  consumes,
  produces,
  async drive(world, atEnd) {
    const settings = { SIGNING_KEY_LEAD_SECONDS: 2, ACCESS_TOKEN_SECONDS: 30, STAFF_PASSWORD: 'staff password 1' }
    const user = await startUser(world, { ...settings, STAFF_EMAIL: 'staff@example.com' })
    atEnd(user.stop)
    const account = { email: 'zoe@example.com', password: 'correct horse battery', displayName: 'Zoë' }
    const { status } = await user.call('POST', '/v1/users', account)
    if (status !== 201) throw new Error(`a registration is answered with ${status}`)
    const other = await startUser(world, { ...settings, STAFF_EMAIL: 'next@example.com' }) // the first loses the role
    await other.stop()
    await eventually('the first signing key', () => world.events('SigningKeyPublished').length > 0)
    const url = world.settings.DATABASE_URL
    const database = createDatabase({ url, poolSize: 1, applicationName: 'test', logger: world.logger })
    // as if the key had been made so long ago that the last token it signed has expired
    await sql`
      update signing_key_pair
      set active_from = active_from - interval '90 days', expires_at = expires_at - interval '90 days'
    `.execute(database.query)
    await database.close()
  },
})
