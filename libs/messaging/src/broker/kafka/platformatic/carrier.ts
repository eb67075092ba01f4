import type { Carrier } from '../leaders.ts'
import { askLimit } from './cluster.ts'
import { type Connections, timeLimit } from './connections.ts'
import { nameOf } from './errors.ts'

/**
 * @param metadata what asks brokers for it, which has to be quick, must not wait behind what may take its time.
 * @param brokerCount how many there are to be asked for it.
 */
export function createCarrier(
  { metadata, log }: { metadata: Connections; log: Connections },
  brokerCount: number,
): Carrier {
  return {
    send: (to, request) =>
      request.apiName === 'Metadata'
        ? metadata.send(to, request, askLimit(brokerCount))
        : log.send(to, request, timeLimit.answer),
    nameOf,
    async close() {
      metadata.close()
      log.close()
    },
  }
}
