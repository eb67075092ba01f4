import { expect, test } from '@jest/globals'
import { startNats, whyNoNats } from '@shopstream/local-servers'
import { messageOf, sendAll, startServer, testOutlet, waysOf } from '../testing/conformance.ts'
import { receive, testInlet } from '../testing/inlets.ts'
import { keepOpen } from './connection.ts'
import { nats } from './index.ts'

async function start() {
  const server = await startServer('nats', startNats)
  let places = 0
  async function place(maxMessages = 10_000) {
    const stream = `place-${++places}`
    const options = { url: 'NATS_URL', stream, subject: `${stream}.{aggregate}.{event}`, maxMessages }
    const connection = keepOpen({ bridge: 'test', url: server.url, options }, 'limits')
    async function arrived() {
      const { streams } = (await connection.get()).jsm
      const { messages, first_seq } = (await streams.info(stream)).state
      const sequences = Array.from({ length: messages }, (_, n) => first_seq + n)
      const read = await Promise.all(sequences.map((seq) => streams.getMessage(stream, { seq })))
      return read.map((one) => ({ id: one?.header.get('Nats-Msg-Id') ?? '', body: Buffer.from(one?.data ?? []) }))
    }
    const makeRoom = async () => void (await (await connection.get()).jsm.streams.purge(stream, { keep: 5 }))
    const remove = async () => void (await (await connection.get()).jsm.streams.delete(stream))
    return { ...(await waysOf(nats, server, options)), connection, arrived, makeRoom, remove }
  }
  return { ...server, place }
}

testOutlet({ name: 'NATS', lacks: whyNoNats(), start })
testInlet({ name: 'NATS', lacks: whyNoNats(), start })

const ifNats = whyNoNats() ? test.skip : test
ifNats('brings what no client of ours would write, and no repeats; from no stream of retention interest', async () => {
  const { place, stop } = await start()
  const { outlet, openInlet, connection } = await place()
  const { nc, jsm } = await connection.get()
  const message = messageOf('key', 0)
  await sendAll(outlet, [message, message])
  for (const lines of ['f oo: x\r\n', 'ü: a\nb\r\n', 'a: b\r\n'.repeat(10_000)]) {
    const headers = { encode: () => Buffer.from(`NATS/1.0\r\n${lines}\r\n`) }
    nc.publish('place-1.a.b', '', { headers: headers as never })
  }
  nc.publish('place-1.a.b')
  const got: unknown[] = []
  await receive(openInlet(), (some, end) => {
    got.push(...some.map(({ headers, unfit }) => unfit ?? headers))
    if (got.length >= 5) end()
  })
  const unfit = 'it has 10000 headers; up to 200 are read'
  const ours = expect.objectContaining({ 'Nats-Msg-Id': message.id })
  expect(got).toEqual([ours, { 'f oo': 'x' }, { ü: 'a\nb' }, unfit, {}])
  await jsm.streams.add({ name: 'place-2', subjects: ['place-2.*.*'], retention: 'interest' })
  await expect(receive((await place()).openInlet(), () => {})).rejects.toThrow('NATS: stream place-2 has the retention')
  await stop()
})
