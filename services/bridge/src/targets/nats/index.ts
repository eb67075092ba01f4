import { Type } from '@shopstream/config'
import { claimOf, type OfRow, strayNames, target, urlVariable, type Written } from '../target.ts'

const optionsWith = (pattern: string, description: string) => {
  const stream = Type.String({ pattern: '^[\\w-]{1,200}$', description: 'a name of letters, digits, - and _' })
  const maxMessages = Type.Integer({ minimum: 1, description: 'messages from which on it is full' })
  const subject = Type.String({ pattern, description })
  const properties = { url: urlVariable('NATS_URL'), stream, subject, maxMessages: Type.Optional(maxMessages) }
  return Type.Object(properties, { additionalProperties: false })
}
const outOptions = optionsWith('^[^\\s*>]+$', 'a subject without * or >, such as shop.{aggregate}.{event}')
const inOptions = optionsWith('^\\S+$', 'a subject, such as loyalty.*')

const problems = (written: Written, { form }: OfRow) => [
  ...(form === 'celery' ? ['cannot take form celery: Celery does not read from NATS'] : []),
  ...strayNames(written, 'subject', ['{aggregate}', '{event}']),
]
const [outClaims, inClaims] = [claimOf('stream', 'sends into'), claimOf('stream', 'receives from')]
const ways = () => import('./ways.ts')

/** NATS from 2.9 on, with JetStream. */
export const nats = target({
  protocols: ['nats', 'tls'],
  usual: { ports: [4222, 4222], path: '' },
  out: { options: outOptions, problems, claims: outClaims, open: async (place) => (await ways()).openOutlet(place) },
  in: { options: inOptions, claims: inClaims, open: async (place) => (await ways()).openInlet(place) },
})
