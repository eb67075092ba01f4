import TestSequencer from '@jest/test-sequencer'

/**
 * Suites of half a minute and more, the longest first: if a long one begins last, a core has no work. A fresh clone
 * knows no durations of earlier runs; Jest would then go by file size, and begin the longest ones at the end.
 */
const long = [
  'tools/src/proof/e2e/shop-commands',
  'libs/messaging/src/outages-of-brokers.proof',
  'tools/src/proof/e2e/failures.proof',
  'tools/src/proof/e2e/verify',
  'tools/src/proof/e2e/chaos.proof',
  'libs/messaging/src/outages.proof',
  'tools/src/proof/e2e/examples.proof',
  'tools/src/proof/e2e/shop',
  'libs/testing/src/servers',
  'libs/messaging/src/crash-points',
  'libs/messaging/src/broker/kafka/conformance',
  'libs/messaging/src/consumer/flow',
  'tools/src/proof/saga/model',
  'libs/messaging/src/parked/parking',
]

const placeOf = (path) => {
  const place = long.findIndex((suite) => path.endsWith(`${suite}.test.ts`))
  return place === -1 ? long.length : place
}

export default class LongestFirst extends TestSequencer {
  sort(tests) {
    return [...super.sort(tests)].sort((one, other) => placeOf(one.path) - placeOf(other.path))
  }
}
