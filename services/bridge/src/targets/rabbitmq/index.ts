import { target } from '../target.ts'
import { inClaims, inOptions, inProblems, outClaims, outOptions, outProblems } from './options.ts'

/** RabbitMQ, by AMQP 0-9-1. */
export const rabbitmq = target({
  protocols: ['amqp', 'amqps'],
  usual: { ports: [5672, 5671], path: '/' }, // the vhost
  out: {
    options: outOptions,
    problems: outProblems,
    claims: outClaims,
    open: async (place) => (await import('./outlet.ts')).openOutlet(place),
  },
  in: {
    options: inOptions,
    problems: inProblems,
    claims: inClaims,
    open: async (place) => (await import('./inlet.ts')).openInlet(place),
  },
})
