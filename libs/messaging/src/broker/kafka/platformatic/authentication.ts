import { type ConnectionOptions, saslPlain, saslScramSha } from '@platformatic/kafka'
import type { KafkaIdentity } from '../identity.ts'

type Sasl = NonNullable<KafkaIdentity['sasl']>
type Authenticate = NonNullable<NonNullable<ConnectionOptions['sasl']>['authenticate']>

/**
 * What a connection authenticates with. Where brokers end sessions (connections.max.reauth.ms), the library authenticates
 * anew on the same connection while other requests go out, at which the broker closes it. So it is told that sessions do not
 * end, and whoever has the connection that this one does, in ms.
 */
export function authentication({ mechanism, username, password }: Sasl, endsIn: (ms: number) => void) {
  const authenticate: Authenticate = (_mechanism, connection, request, _username, _password, _token, callback) => {
    const told: typeof callback = (error, response) => {
      if (error || !response) return callback(error, response)
      if (response.sessionLifetimeMs > 0n) endsIn(Number(response.sessionLifetimeMs))
      callback(null, { ...response, sessionLifetimeMs: 0n })
    }
    if (mechanism === 'plain') return saslPlain.authenticate(request, connection, username, password, told)
    const algorithm = mechanism === 'scram-sha-256' ? 'SHA-256' : 'SHA-512'
    const { defaultCrypto } = saslScramSha
    saslScramSha.authenticate(request, connection, algorithm, username, password, defaultCrypto, told)
  }
  return { mechanism: mechanism.toUpperCase() as 'PLAIN', authenticate }
}
