/// <reference path="./internals.d.ts" />

import { gather } from '@shopstream/database'
import OffsetManager from 'kafkajs/src/consumer/offsetManager/index.js'
import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import fetchRequests from 'kafkajs/src/protocol/requests/fetch/index.js'
import { type Place, placeOf } from '../../bus.ts'
import type { DecodingLimits, LogRecord } from '../log-record.ts'
import { decodeFetch, type FetchedPartition, fetchVersion } from '../protocol.ts'
import { type Budget, decodeRecords, type UnreadableRecords } from '../records.ts'
import { UnfinishedBatches } from '../unfinished-batches.ts'

/**
 * What is changed in KafkaJS 2.2.4, which has had no release since 2023. Once per process, whoever uses it.
 */

// KafkaJS rearms this timer without end, also when nothing waits, with a negative delay that Node 24 makes 1 ms:
// 3.9 CPU seconds a minute for an idle process. It has work only while requests are pending.
const checkWhilePending = RequestQueue.prototype.scheduleCheckPendingRequests
RequestQueue.prototype.scheduleCheckPendingRequests = function (this: { pending: unknown[] }) {
  if (this.pending.length > 0) checkWhilePending.call(this)
}

// After each partition's batch KafkaJS commits every offset not committed yet: six partitions that finished together
// sent the same six offsets six times, and waited for each commit.
const commitOffsets = OffsetManager.prototype.commitOffsets
const committing = new WeakMap<object, (offsets: undefined) => Promise<void>>()
OffsetManager.prototype.commitOffsets = function (this: object, offsets) {
  if (offsets) return commitOffsets.call(this as never, offsets)
  const commit = committing.get(this) ?? gather(100, async () => [await commitOffsets.call(this as never)])
  committing.set(this, commit)
  return commit(undefined)
}

/** The limits of this process; the last bus that is made says what they are. */
export const limits: DecodingLimits = { batchBytes: 0, messageBytes: 0 }

/** A message as KafkaJS delivers it; one that nobody may see is marked as a control record. */
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
    const places = options.topics.flatMap(({ topic, partitions }) => partitions.map((asked) => ({ ...asked, topic })))
    const offsets = new Map(places.map((place) => [placeOf(place), BigInt(place.fetchOffset)]))
    const topics = inTurn(places).map(({ topic, ...asked }) => ({ topic, partitions: [asked] }))
    const original = protocolOf({ version })({ ...options, topics })
    return { ...original, response: { ...original.response, decode: async (bytes) => decodeAnswer(bytes, offsets) } }
  }
}

/**
 * By partition, when it was served last: the one that waits longest is fetched and decoded first. Otherwise a few could
 * fill every answer and use up its budget; KafkaJS leaves the order to chance.
 */
const served = new Map<string, number>()
const servedAt = (place: Place) => served.get(placeOf(place)) ?? 0
const inTurn = <P extends Place>(places: readonly P[]) =>
  places.toSorted((one, other) => servedAt(one) - servedAt(other))
let turn = 0

/** One for all consumers of the process, which are one service's. */
const unfinished = new UnfinishedBatches()

function decodeAnswer(bytes: Buffer, offsets: ReadonlyMap<string, bigint>) {
  const { throttleMs, errorCode, sessionId, partitions } = decodeFetch(bytes)
  const budget = { left: limits.batchBytes }
  const responses = inTurn(partitions).map((partition) => ({
    topicName: partition.topic,
    partitions: [
      {
        partition: partition.partition,
        errorCode: partition.errorCode,
        highWatermark: String(partition.highWatermark),
        lastStableOffset: String(partition.lastStableOffset),
        lastStartOffset: String(partition.logStartOffset),
        abortedTransactions: [],
        preferredReadReplica: partition.preferredReadReplica,
        messages: rawMessages(partition, offsets.get(placeOf(partition)) ?? 0n, budget),
      },
    ],
  }))
  // The broker does the throttling; KafkaJS is to wait by itself, and told 0 otherwise.
  return { throttleTime: 0, clientSideThrottleTime: throttleMs, errorCode, sessionId, responses }
}

function rawMessages({ records: bytes, aborted, ...at }: FetchedPartition, from: bigint, budget: Budget): RawMessage[] {
  const place = placeOf(at)
  const { records, next, unreadable } = decodeRecords(bytes, from, aborted, limits, budget, { of: unfinished, place })
  if (unreadable || (next !== undefined && next > from)) served.set(place, ++turn)
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
