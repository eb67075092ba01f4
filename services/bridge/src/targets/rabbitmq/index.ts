import { target } from '../target.ts'
import { openInlet } from './inlet.ts'
import { inClaims, inOptions, inProblems, outClaims, outOptions, outProblems } from './options.ts'
import { openOutlet } from './outlet.ts'

/** RabbitMQ, by AMQP 0-9-1. */
export const rabbitmq = target({
  protocols: ['amqp', 'amqps'],
  usual: { ports: [5672, 5671], path: '/' }, // the vhost
  out: { options: outOptions, problems: outProblems, claims: outClaims, open: openOutlet },
  in: { options: inOptions, problems: inProblems, claims: inClaims, open: openInlet },
})
