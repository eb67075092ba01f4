import { target } from '../target.ts'
import { openInlet } from './inlet.ts'
import { inClaims, inOptions, outOptions, outProblems } from './options.ts'
import { openOutlet } from './outlet.ts'

/** Redis from 7 on and Valkey: streams, and the lists of Celery's queues. */
export const redis = target({
  protocols: ['redis', 'rediss'],
  usual: { ports: [6379, 6379], path: '0' }, // the database
  out: { options: outOptions, problems: outProblems, open: openOutlet },
  in: { options: inOptions, claims: inClaims, open: openInlet },
})
