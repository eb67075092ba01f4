/** Hands each request on to the order service, over connections that are kept. Environment: PORT, ORDER_PORT. */
import { Agent, createServer, request } from 'node:http'

const { PORT, ORDER_PORT } = process.env
const agent = new Agent({ keepAlive: true })

createServer((asked, answer) => {
  const { method, url: path, headers } = asked
  const onward = request({ host: '127.0.0.1', port: ORDER_PORT, method, path, headers, agent }, (answered) => {
    answer.writeHead(answered.statusCode ?? 502, answered.headers)
    answered.pipe(answer)
  })
  onward.once('error', () => answer.writeHead(502).end())
  asked.pipe(onward)
}).listen(Number(PORT), '127.0.0.1', () => process.stdout.write('serving\n'))
