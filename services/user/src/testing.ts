import type { EventName } from '@shopstream/events'
import type { Message } from '@shopstream/messaging'
import type { World } from '@shopstream/testing'
import { buildUser } from './app.ts'
import type { Config } from './config.ts'

/** The environment of a user service in a world of its own. */
export const testConfig = (world: World, more: Partial<Config> = {}): Config => ({
  ...world.settings,
  KEY_ENCRYPTION_SECRET: 'a secret of at least thirty-two characters',
  ACCESS_TOKEN_SECONDS: 900,
  REFRESH_TOKEN_DAYS: 30,
  SIGNING_KEY_DAYS: 30,
  SIGNING_KEY_LEAD_SECONDS: 600,
  REGISTRATIONS_PER_ADDRESS: 10_000,
  REGISTRATIONS_IN_ALL: 100_000,
  REGISTRATIONS_SECONDS: 3_600,
  LOGIN_FAILURES_PER_ACCOUNT: 20,
  LOGIN_FAILURES_PER_ADDRESS: 1_000,
  LOGIN_FAILURES_SECONDS: 600,
  ...more,
})

/** Starts a user service, and gives calls to its declared routes. */
export async function startUser(world: World, more: Partial<Config> = {}) {
  const service = await buildUser(testConfig(world, more), world.logger)
  try {
    await service.start()
  } catch (error) {
    await service.stop()
    throw error
  }
  return {
    stop: () => service.stop(),
    /** @param clientAddress as the gateway tells it. */
    async call(method: 'GET' | 'POST' | 'DELETE', url: string, body?: unknown, token?: string, clientAddress?: string) {
      const { statusCode, headers, payload } = await service.http.inject({
        method,
        url,
        ...(body !== undefined && { payload: body as object }),
        headers: {
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(clientAddress !== undefined && { 'x-real-ip': clientAddress }),
        },
      })
      return { status: statusCode, headers, body: payload ? JSON.parse(payload) : undefined }
    },
  }
}

export type TestUser = Awaited<ReturnType<typeof startUser>>

/** The events of a type so far; one that was delivered twice is in it once. */
export function published<N extends EventName>(world: World, type: N): Message<N>[] {
  return [...new Map(world.events(type).map((message) => [message.id, message])).values()]
}
