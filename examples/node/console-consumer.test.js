/** Against a running shop: npm test. Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL, GATEWAY_URL. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { SchemaRegistry } from '@kafkajs/confluent-schema-registry'

const { GATEWAY_URL = 'http://127.0.0.1:8080', SCHEMA_REGISTRY_URL = 'http://127.0.0.1:8080/schema-registry' } =
  process.env
const registry = new SchemaRegistry({ host: SCHEMA_REGISTRY_URL })

/** SchemaRegistered, the first schema: id 1, version 1, two empty texts. */
const schemaRegistered = Buffer.from('00000186a102000200', 'hex')

test('prints, decoded, what a registration causes', { timeout: 150_000 }, async (t) => {
  const email = `node-${randomUUID()}@example.com`
  const answer = await fetch(`${GATEWAY_URL}/v1/users`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password: 'correct horse battery', displayName: 'Grażyna 李' }),
  })
  assert.equal(answer.status, 201)
  const consumer = spawn(process.execPath, ['console-consumer.js', 'shop.user.v1'], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let errors = ''
  consumer.stderr.on('data', (text) => (errors += text))
  const ended = once(consumer, 'exit')
  const limit = setTimeout(() => consumer.kill('SIGKILL'), 120_000)
  t.after(() => clearTimeout(limit))
  let found
  for await (const line of createInterface({ input: consumer.stdout })) {
    const event = JSON.parse(line)
    if (event.data.email !== email) continue
    found = event
    consumer.kill('SIGINT')
  }
  await ended
  assert.ok(found, `the event of ${email} was not printed; the consumer said: ${errors}`)
  assert.equal(found.type, 'UserRegistered')
  assert.equal(found.key, found.data.userId)
  assert.equal(found.data.displayName, 'Grażyna 李')
})

test('the registry knows the schema by which others are learnt', async () => {
  const data = await registry.decode(schemaRegistered)
  assert.deepEqual({ ...data }, { schemaId: 1, subject: '', version: 1, schema: '' })
})

test('an id that no schema has is refused', async () => {
  await assert.rejects(registry.decode(Buffer.from('000000000100', 'hex')))
})
