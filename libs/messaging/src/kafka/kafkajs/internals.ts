/// <reference path="./internals.d.ts" />

import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import fetchRequests from 'kafkajs/src/protocol/requests/fetch/index.js'
import { decodeFetch, type FetchedPartition, fetchVersion } from '../protocol.ts'
import { type DecodingLimits, decodeRecords, type LogRecord, type UnreadableRecords } from '../records.ts'

/**
 * What is changed in KafkaJS 2.2.4, which has had no release since 2023. Once per process, whoever uses it.
 */

// KafkaJS rearms this timer without end, also when nothing waits, with a negative delay that Node 24 makes 1 ms:
// 3.9 CPU seconds a minute for an idle process. It has work only while requests are pending.
const checkWhilePending = RequestQueue.prototype.scheduleCheckPendingRequests
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: { pending: unknown[] }) {
  if (this.pending.length > 0) checkWhilePending.call(this)
}

/** The limits of this process; the last bus that is made says what they are. */
export const limits: DecodingLimits = { batchBytes: 0, messageBytes: 0 }

/** A message as KafkaJS hands it on; what is not to be seen by anybody is marked as a control record. */
export interface RawMessage {
  offset: string
  isControlRecord: boolean
  /** What KafkaJS looks at to leave out aborted transactions, which are left out already. */
  batchContext: object
  record?: LogRecord
  unreadable?: UnreadableRecords
}

// KafkaJS throws for the whole answer, of all topics, when it cannot read a record: a codec that it does not have, a header
// without a value. It also unpacks without a bound, takes the messages of an empty batch for no answer and asks for them for
// ever. So answers are taken apart by our own decoder.
const protocolOf = fetchRequests.protocol
fetchRequests.protocol = ({ version }) => {
  if (version < fetchVersion) throw new Error('brokers before Kafka 2.3 cannot be read from')
  return (options) => {
    const offsets = new Map(
      options.topics.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition, fetchOffset }) => [`${topic}/${partition}`, BigInt(fetchOffset)]),
      ),
    )
    const original = protocolOf({ version })(options)
    return { ...original, response: { ...original.response, decode: async (bytes) => decodeAnswer(bytes, offsets) } }
  }
}

let turn = 0

function decodeAnswer(bytes: Buffer, offsets: ReadonlyMap<string, bigint>) {
  const { throttleMs, errorCode, sessionId, partitions } = decodeFetch(bytes)
  const budget = { left: limits.batchBytes }
  // Each begins in its turn: KafkaJS always asks for them in one order, and the first could use up the budget for ever.
  turn = (turn + 1) % Math.max(1, partitions.length)
  const inTurn = [...partitions.slice(turn), ...partitions.slice(0, turn)]
  const responses = [...Map.groupBy(inTurn, ({ topic }) => topic)].map(([topicName, ofTopic]) => ({
    topicName,
    partitions: ofTopic.map((partition) => ({
      partition: partition.partition,
      errorCode: partition.errorCode,
      highWatermark: String(partition.highWatermark),
      lastStableOffset: String(partition.lastStableOffset),
      lastStartOffset: String(partition.logStartOffset),
      abortedTransactions: [],
      preferredReadReplica: partition.preferredReadReplica,
      messages: rawMessages(partition, offsets.get(`${topicName}/${partition.partition}`) ?? 0n, budget),
    })),
  }))
  // The broker does the throttling; KafkaJS is to wait by itself, and told 0 otherwise.
  return { throttleTime: 0, clientSideThrottleTime: throttleMs, errorCode, sessionId, responses }
}

function rawMessages(
  { records: bytes, aborted }: FetchedPartition,
  from: bigint,
  budget: { left: number },
): RawMessage[] {
  const { records, next, unreadable } = decodeRecords(bytes, from, aborted, limits, budget)
  const messages = records.map(
    (record): RawMessage => ({ offset: String(record.offset), isControlRecord: false, batchContext: {}, record }),
  )
  if (unreadable)
    return [
      ...messages,
      { offset: String(unreadable.lastOffset), isControlRecord: false, batchContext: {}, unreadable },
    ]
  const last = records.at(-1)?.offset
  if (next === undefined || next - 1n === last || next <= from) return messages
  return [...messages, { offset: String(next - 1n), isControlRecord: true, batchContext: {} }]
}
