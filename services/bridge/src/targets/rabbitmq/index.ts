import { target } from '../target.ts'
import { openInlet } from './inlet.ts'
import { inOptions, outOptions } from './options.ts'
import { openOutlet } from './outlet.ts'

/** RabbitMQ, by AMQP 0-9-1. */
export const rabbitmq = target({
  protocols: ['amqp', 'amqps'],
  out: { options: outOptions, open: openOutlet },
  in: { options: inOptions, open: openInlet },
})
