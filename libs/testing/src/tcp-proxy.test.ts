import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { eventually } from '@shopstream/local-servers'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

const echo = createServer((socket) => socket.on('error', () => {}).pipe(socket))
let proxy: TcpProxy

beforeEach(async () => {
  echo.listen(0, '127.0.0.1')
  await once(echo, 'listening')
  proxy = await startTcpProxy({ target: (echo.address() as AddressInfo).port })
})
afterEach(async () => {
  await proxy.close()
  echo.close()
})

function client() {
  const heard: Buffer[] = []
  const state = { ended: false }
  const socket = dial({ port: proxy.port, host: '127.0.0.1' })
  socket.on('data', (chunk) => heard.push(chunk))
  socket.on('error', () => {})
  socket.once('close', () => {
    state.ended = true
  })
  return { socket, state, heard: () => Buffer.concat(heard).toString() }
}

test('passes bytes on and counts them', async () => {
  const { socket, heard } = client()
  socket.write('hello')
  await eventually('the echo', () => heard() === 'hello')
  expect(proxy).toMatchObject({ received: 5, connections: 1 })
  socket.destroy()
  await eventually('no connection', () => proxy.connections === 0)
})

test('what is stalled arrives once it heals', async () => {
  const { socket, heard } = client()
  socket.write('a')
  await eventually('the echo', () => heard() === 'a')
  proxy.stall()
  socket.write('b')
  const other = client()
  other.socket.write('c')
  await once(other.socket, 'connect')
  expect([heard(), other.heard()]).toEqual(['a', ''])
  proxy.heal()
  await eventually('both echoes', () => heard() === 'ab' && other.heard() === 'c')
  socket.destroy()
  other.socket.destroy()
})

test('a cut resets what is open and what is new, until it heals', async () => {
  const first = client()
  first.socket.write('a')
  await eventually('the echo', () => first.heard() === 'a')
  proxy.cut()
  await eventually('the reset', () => first.state.ended)
  const second = client()
  await eventually('the refusal', () => second.state.ended)
  proxy.heal()
  const third = client()
  third.socket.write('b')
  await eventually('the echo', () => third.heard() === 'b')
  third.socket.destroy()
})
