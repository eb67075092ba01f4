import { Type } from '@shopstream/config'
import { target, urlVariable } from '../target.ts'

const properties = {
  url: urlVariable('NATS_URL'),
  stream: Type.String({ pattern: '^[\\w-]{1,200}$', description: 'the name of a stream: letters, digits, - and _' }),
  subject: Type.String({ pattern: '^\\S+$', description: 'a subject, such as shop.{aggregate}.{event}' }),
  maxMessages: Type.Optional(Type.Integer({ minimum: 1, description: 'messages from which on it is full' })),
}
const options = Type.Object(properties, { additionalProperties: false })

const outProblems = (_: unknown, form: unknown) =>
  form === 'celery' ? ['cannot take form celery: Celery does not read from NATS'] : []

/** NATS from 2.9 on, with JetStream. */
export const nats = target({
  protocols: ['nats', 'tls'],
  usual: { ports: [4222, 4222], path: '' },
  out: { options, problems: outProblems, open: async (place) => (await import('./ways.ts')).openOutlet(place) },
  in: { options, open: async (place) => (await import('./ways.ts')).openInlet(place) },
})
