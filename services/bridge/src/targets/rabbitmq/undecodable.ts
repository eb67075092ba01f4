import type { ChannelModel } from 'amqplib'

/** How amqplib reads frames. Not documented, so inlet.test.ts goes this way with the version that is pinned. */
interface Frames {
  rest: Buffer
  /** The frame at the beginning of `rest`, which it cuts off before it decodes it. */
  recvFrame(): object | false
}

/** What a frame begins with: its type, its channel, its size; then, of the header of a message, a class, and the body's size. */
const headerFrame = 2
const basicClass = 60
const at = { channel: 1, size: 3, class: 7, bodySize: 11 }

/**
 * amqplib ends the connection by properties that it cannot decode, such as tables nested thousands deep or a type that it does not
 * know, and that message would come first again, for ever. With this it comes without properties: see {@link undecodedBytes}.
 */
export function bringUndecodable({ connection }: ChannelModel): void {
  const frames = connection as unknown as Frames
  const recvFrame = frames.recvFrame.bind(frames)
  frames.recvFrame = () => {
    const { rest } = frames
    try {
      return recvFrame()
    } catch (error) {
      const isCutOff = frames.rest !== rest // else it is no frame
      if (!isCutOff || rest[0] !== headerFrame || rest.readUInt16BE(at.class) !== basicClass) throw error
      return {
        id: basicClass,
        channel: rest.readUInt16BE(at.channel),
        size: Number(rest.readBigUInt64BE(at.bodySize)),
        fields: { undecoded: rest.readUInt32BE(at.size) },
      }
    }
  }
}

/** How many bytes the properties of a message have that could not be decoded. */
export const undecodedBytes = (properties: object): number | undefined =>
  (properties as { undecoded?: number }).undecoded
