import { target } from '../target.ts'
import { inClaims, inOptions, outClaims, outOptions, outProblems } from './options.ts'

/** Redis from 7 on and Valkey: streams, and the lists of Celery's queues. */
export const redis = target({
  protocols: ['redis', 'rediss'],
  usual: { ports: [6379, 6379], path: '0' }, // the database
  urlProblem({ pathname, searchParams }) {
    if (/^\/?\d{0,4}$/.test(pathname) && !searchParams.has('db')) return undefined // the client would take database 0
    return 'names its database in another way than as a number behind the address, such as redis://127.0.0.1:6379/3'
  },
  out: {
    options: outOptions,
    problems: outProblems,
    claims: outClaims,
    open: async (place) => (await import('./outlet.ts')).openOutlet(place),
  },
  in: { options: inOptions, claims: inClaims, open: async (place) => (await import('./inlet.ts')).openInlet(place) },
})
