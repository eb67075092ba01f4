// Inner parts of KafkaJS 2.2.4 that have no types of their own; see internals.ts for what each is used for.

declare module 'kafkajs/src/network/requestQueue/index.js' {
  const RequestQueue: { prototype: { scheduleCheckPendingRequests(): void } }
  export default RequestQueue
}

declare module 'kafkajs/src/consumer/offsetManager/index.js' {
  /** Without offsets: all that are resolved and not committed. */
  const OffsetManager: { prototype: { commitOffsets(offsets?: object): Promise<void> } }
  export default OffsetManager
}

declare module 'kafkajs/src/protocol/requests/fetch/index.js' {
  interface FetchArguments {
    topics: { topic: string; partitions: { partition: number; fetchOffset: string }[] }[]
  }
  interface Protocol {
    response: { decode(bytes: Buffer): Promise<unknown>; parse(data: unknown): Promise<unknown> }
  }
  const requests: { protocol(options: { version: number }): (options: FetchArguments) => Protocol }
  export default requests
}

declare module 'kafkajs/src/protocol/encoder.js' {
  export default class Encoder {
    writeBufferInternal(bytes: Buffer): void
  }
}

declare module 'kafkajs/src/network/connectionPool.js' {
  interface Request<Answer> {
    request: { apiKey: number; apiVersion: number; apiName: string; encode(): Promise<unknown> }
    response: { decode(bytes: Buffer): Promise<unknown>; parse(data: unknown): Promise<Answer> }
    requestTimeout?: number | null
  }
  export default class ConnectionPool {
    constructor(options: object)
    getConnectionByRequest(about: { request: { apiKey: number } }): Promise<unknown>
    send<Answer>(request: Request<Answer>): Promise<Answer>
    setVersions(versions: object): void
    setSupportAuthenticationProtocol(isSupported: boolean): void
    destroy(): Promise<void>
  }
}

declare module 'kafkajs/src/network/socketFactory.js' {
  export default function socketFactory(): object
}

declare module 'kafkajs/src/protocol/error.js' {
  const errors: { createErrorFromCode(code: number): { type: string } }
  export default errors
}
