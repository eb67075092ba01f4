import { Type } from '@shopstream/config'
import { type Claim, type OfRow, strayNames, target, urlVariable, type Written } from '../target.ts'

const properties = {
  url: urlVariable('NATS_URL'),
  stream: Type.String({ pattern: '^[\\w-]{1,200}$', description: 'the name of a stream: letters, digits, - and _' }),
  subject: Type.String({ pattern: '^\\S+$', description: 'a subject, such as shop.{aggregate}.{event}' }),
  maxMessages: Type.Optional(Type.Integer({ minimum: 1, description: 'messages from which on it is full' })),
}
const options = Type.Object(properties, { additionalProperties: false })

const outProblems = (written: Written, { form }: OfRow) => [
  ...(form === 'celery' ? ['cannot take form celery: Celery does not read from NATS'] : []),
  ...strayNames(written, 'subject', ['{aggregate}', '{event}']),
  ...(typeof written.subject === 'string' && written.subject.split('.').some((part) => part === '*' || part === '>')
    ? ['subject has * or >, which nothing can be sent to: name one, such as shop.{aggregate}.{event}']
    : []),
]

const claims = (does: Claim['does']) => (written: Written) =>
  typeof written.stream === 'string' ? [{ place: `stream ${written.stream}`, does }] : []

/** NATS from 2.9 on, with JetStream. */
export const nats = target({
  protocols: ['nats', 'tls'],
  usual: { ports: [4222, 4222], path: '' },
  out: {
    options,
    problems: outProblems,
    claims: claims('sends into'),
    open: async (place) => (await import('./ways.ts')).openOutlet(place),
  },
  in: { options, claims: claims('receives from'), open: async (place) => (await import('./ways.ts')).openInlet(place) },
})
