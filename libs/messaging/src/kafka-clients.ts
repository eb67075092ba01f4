/// <reference path="./kafkajs-internals.d.ts" />

import type { Logger } from '@shopstream/observability'
import kafkajs, { type Admin } from 'kafkajs'
import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import { pause, withTimeLimit } from './async.ts'

// KafkaJS 2.2.4 rearms this timer without end, also when nothing waits, with a negative delay that Node 24 makes 1 ms:
// 3.9 CPU seconds a minute for an idle process. It has work only while requests are pending.
const checkWhilePending = RequestQueue.prototype.scheduleCheckPendingRequests
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: { pending: unknown[] }) {
  if (this.pending.length > 0) checkWhilePending.call(this)
}

/**
 * How old a client's idea of who leads which partition may be when it is used, in ms. KafkaJS asks anew when a connection
 * breaks, but not when a broker falls silent (frozen, cut off): with its default of 5 min a frozen broker of three stopped
 * every relay for so long, though its partitions had new leaders after 4 s.
 */
export const metadataMaxAge = 5_000
/** Pause between two signs of life, in ms, and after how long without one the broker counts as away. */
const checkEvery = 2_000
const checkLimit = 7_000

/** What the broker has answered, if that is what is behind an error. */
export function saidByBroker(error: unknown): kafkajs.KafkaJSProtocolError | undefined {
  if (error instanceof kafkajs.KafkaJSProtocolError) return error
  return error instanceof Error ? saidByBroker(error.cause) : undefined
}

/**
 * A client that is connected when first needed, and again after that failed. One that has failed is better replaced:
 * KafkaJS 2.2.4 takes a connection that it made while the broker was frozen for ready ever after, though it has not
 * learned what the broker speaks, and fails with "Broker not connected" until its process ends (chaos, seed 21); and it
 * asks for a topic that is gone in all its requests for metadata, which then fail for every topic.
 */
export function connectedOnce<Client extends { connect(): Promise<void>; disconnect(): Promise<void> }>(
  create: () => Client,
) {
  let connected: Promise<Client> | undefined
  return {
    get(): Promise<Client> {
      if (connected) return connected
      const connecting = (async () => {
        const client = create()
        await client.connect()
        return client
      })()
      connected = connecting
      connecting.catch(() => {
        if (connected === connecting) connected = undefined
      })
      return connecting
    },
    /** Another client is connected when it is needed next; this one leaves in the background. */
    renew(): void {
      const former = connected
      connected = undefined
      void former?.then((client) => client.disconnect()).catch(() => undefined) // it is gone either way
    },
    async close(): Promise<void> {
      const leave = async () => (await connected)?.disconnect()
      await withTimeLimit(leave(), 2_000, 'disconnecting').catch(() => undefined) // the process ends anyway
    },
  }
}

/** Asks the broker for a sign of life every {@link checkEvery} ms, and tells when it goes and comes. */
export function watchBroker(
  admin: { get(): Promise<Admin>; renew(): void },
  logger: Logger,
  stop: AbortSignal,
): { check(): void } {
  let answered = Number.NEGATIVE_INFINITY
  let problem: string | undefined = 'not connected yet'
  void (async () => {
    while (!stop.aborted) {
      try {
        await (await admin.get()).describeCluster()
        if (problem !== undefined) logger.info('Kafka answers')
        answered = performance.now()
        problem = undefined
      } catch (error) {
        admin.renew()
        if (problem === undefined) logger.warn({ err: error }, 'Kafka does not answer; events wait in the outbox')
        problem = error instanceof Error ? error.message : String(error)
      }
      await pause(checkEvery, stop)
    }
  })()
  return {
    check() {
      if (performance.now() - answered > checkLimit)
        throw new Error(`Kafka does not answer: ${problem ?? 'no answer lately'}`)
    },
  }
}
