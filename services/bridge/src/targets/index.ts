import { nats } from './nats/index.ts'
import { rabbitmq } from './rabbitmq/index.ts'
import { redis } from './redis/index.ts'
import type { Target } from './target.ts'

/** Every kind of broker that there is a way to, by its name in the table. */
export const targets: Readonly<Record<string, Target>> = { rabbitmq, redis, nats }
