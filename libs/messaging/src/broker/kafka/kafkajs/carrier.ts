/// <reference path="./internals.d.ts" />

import type { Kafka, KafkaConfig } from 'kafkajs'
import ConnectionPool from 'kafkajs/src/network/connectionPool.js'
import socketFactory from 'kafkajs/src/network/socketFactory.js'
import Encoder from 'kafkajs/src/protocol/encoder.js'
import protocolErrors from 'kafkajs/src/protocol/error.js'
import './internals.ts' // its connections need the same mend
import { withTimeLimit } from '../../../async.ts'
import { inWords } from '../identity.ts'
import type { Carrier } from '../leaders.ts'
import type { ApiRequest, BrokerAddress } from '../protocol.ts'

/** If a metadata request takes longer than this, in ms, the next broker is asked: a frozen one never answers. */
const metadataLimit = 3_000
const fetchKey = 1
/**
 * SaslHandshake and SaslAuthenticate: KafkaJS asks a broker which versions it has, but not by a bare pool. All brokers
 * since Kafka 2.2 have these.
 */
const saslVersions = { 17: { minVersion: 0, maxVersion: 1 }, 36: { minVersion: 0, maxVersion: 1 } }

/** Requests over KafkaJS's own connections, one pool for each broker; one that has failed is made anew. */
export function createCarrier(
  kafka: Kafka,
  options: Pick<KafkaConfig, 'ssl' | 'sasl'> & {
    clientId: string
    brokerCount: number
    connectionTimeout: number
    requestTimeout: number
  },
): Carrier {
  let isClosed = false
  const pools = new Map<string, { pool: ConnectionPool; connecting: Map<number, Promise<unknown>> }>()

  /**
   * A pool whose connection for these requests is open: KafkaJS would open one for each of several requests at once.
   */
  async function connectedPool({ host, port }: BrokerAddress, apiKey: number): Promise<ConnectionPool> {
    const key = `${host}:${port}`
    const settings = {
      ...options,
      host,
      port,
      socketFactory: socketFactory(),
      enforceRequestTimeout: true,
      logger: kafka.logger(),
    }
    const { pool, connecting } = pools.get(key) ?? { pool: poolOf(settings), connecting: new Map() }
    pools.set(key, { pool, connecting })
    if (isClosed) throw new Error('the connections to Kafka are closed')
    const which = apiKey === fetchKey ? 1 : 0 // as KafkaJS has it
    const known = connecting.get(which)
    const connected = known ?? pool.getConnectionByRequest({ request: { apiKey } })
    connecting.set(which, connected)
    await connected.finally(() => connecting.delete(which))
    return pool
  }

  function discard({ host, port }: BrokerAddress): void {
    const key = `${host}:${port}`
    void pools
      .get(key)
      ?.pool.destroy()
      .catch(() => undefined) // it is gone either way
    pools.delete(key)
  }

  return {
    async send<Answer>(to: BrokerAddress, { apiKey, apiVersion, apiName, body, waitsMs, decode }: ApiRequest<Answer>) {
      const isQuick = apiName === 'Metadata' && options.brokerCount > 1
      const limit = isQuick ? metadataLimit : options.requestTimeout + waitsMs
      const sending = connectedPool(to, apiKey).then((pool) =>
        pool.send<Answer>({
          request: { apiKey, apiVersion, apiName, encode: async () => encoded(body) },
          response: { decode: async (bytes) => decode(bytes), parse: async (answer) => answer as Answer },
          requestTimeout: limit,
        }),
      )
      // Connecting to a broker that is frozen has a limit of its own, which is added to.
      return withTimeLimit(
        sending,
        isQuick ? limit : limit + options.connectionTimeout,
        `${apiName} at ${to.host}:${to.port}`,
      ).catch((error) => {
        discard(to)
        throw inWords(error)
      })
    },
    nameOf: (code) => protocolErrors.createErrorFromCode(code).type,
    async close() {
      isClosed = true
      const leaving = Promise.all([...pools.values()].map(({ pool }) => pool.destroy()))
      await withTimeLimit(leaving, 2_000, 'disconnecting').catch(() => undefined) // the process ends anyway
    },
  }
}

function poolOf(settings: object): ConnectionPool {
  const pool = new ConnectionPool(settings)
  pool.setVersions(saslVersions)
  pool.setSupportAuthenticationProtocol(true)
  return pool
}

function encoded(body: Buffer): Encoder {
  const encoder = new Encoder()
  encoder.writeBufferInternal(body)
  return encoder
}
