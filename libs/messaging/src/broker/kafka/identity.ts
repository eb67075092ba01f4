import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { behind, NotAdmitted } from '../bus.ts'

/** How brokers know who this is, and this knows brokers; both undefined: nobody asks. */
export interface KafkaIdentity {
  /** PEM; `{}` is TLS with whom Node trusts. */
  tls?: { ca?: string; cert?: string; key?: string }
  sasl?: { mechanism: SaslMechanism; username: string; password: string }
}

type SaslMechanism = 'plain' | 'scram-sha-256' | 'scram-sha-512'

/** See `kafkaIdentitySettings` in libs/config, which refuses what makes no whole. */
export interface KafkaIdentitySettings {
  KAFKA_TLS: boolean
  KAFKA_TLS_CA?: string | undefined
  KAFKA_TLS_CERT?: string | undefined
  KAFKA_TLS_KEY?: string | undefined
  KAFKA_SASL_MECHANISM?: SaslMechanism | undefined
  KAFKA_SASL_USERNAME?: string | undefined
  KAFKA_SASL_PASSWORD?: string | undefined
}

export function identityOf(settings: Readonly<KafkaIdentitySettings>): KafkaIdentity {
  const { KAFKA_TLS_CA: ca, KAFKA_TLS_CERT: cert, KAFKA_TLS_KEY: key } = settings
  const { KAFKA_SASL_MECHANISM: mechanism, KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = settings
  return {
    ...(settings.KAFKA_TLS && { tls: { ...(ca && { ca }), ...(cert && key && { cert, key }) } }),
    ...(mechanism && username !== undefined && password !== undefined && { sasl: { mechanism, username, password } }),
  }
}

/** All that a text holds: an authority that is being replaced stands beside its successor. */
const certificatesIn = (pem: string): X509Certificate[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[^-]*(-----END CERTIFICATE-----)?/g) ?? [pem]).map(
    (one) => new X509Certificate(one),
  )

/** When the first of its certificates ends, in seconds since 1970; undefined: it has none. */
export function endOf({ tls: { ca = '', cert = '' } = {} }: KafkaIdentity): number | undefined {
  const ends = [ca, cert]
    .filter(Boolean)
    .flatMap((pem) => certificatesIn(pem).map(({ validTo }) => Date.parse(validTo)))
  return ends.length > 0 ? Math.min(...ends) / 1_000 : undefined
}

/**
 * Throws, in words, for certificates and keys that cannot be used, as brokers would be tried for ever, and for a password
 * that whoever listens on the way would read.
 */
export function checkIdentity({ tls, sasl }: KafkaIdentity): void {
  if (sasl?.mechanism === 'plain' && !tls)
    throw new Error(
      'KAFKA_SASL_MECHANISM=plain sends the password as it is, and nothing hides it: set KAFKA_TLS=true, or take scram-sha-512',
    )
  const attempt = (what: string, use: () => unknown) => {
    try {
      use()
    } catch (error) {
      throw new Error(`${what} (${(error as { reason?: string }).reason ?? (error as Error).message})`)
    }
  }
  const { ca, cert, key } = tls ?? {}
  if (ca) attempt('KAFKA_TLS_CA cannot be read as PEM', () => certificatesIn(ca)) // a context takes any text
  if (cert) attempt('KAFKA_TLS_CERT cannot be read as PEM', () => certificatesIn(cert))
  if (key) attempt('KAFKA_TLS_KEY cannot be read as PEM without a passphrase', () => createPrivateKey(key))
  if (cert && key) attempt('KAFKA_TLS_KEY is not the key of KAFKA_TLS_CERT', () => createSecureContext({ cert, key }))
}

const see = {
  password:
    'Kafka does not know this user by this password: see to KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM',
  mechanism: 'Kafka does not offer this KAFKA_SASL_MECHANISM: set one that its listener has (sasl.enabled.mechanisms)',
  issuer:
    "Kafka's certificate is signed by nobody who is trusted here: set KAFKA_TLS_CA to the certificate of who signed it",
  name: "Kafka's certificate is for another name: see to KAFKA_BROKERS and to the addresses that brokers tell (advertised.listeners)",
  expired: "Kafka's certificate is not valid at this time: renew it, or see to the clock of this machine",
  own: 'Kafka does not accept the certificate of this client: see to KAFKA_TLS_CERT and KAFKA_TLS_KEY',
  plain: 'Kafka does not speak TLS there: see to KAFKA_TLS and to the port in KAFKA_BROKERS',
}

/** By what an error, or one behind it, says of itself: name, code or message. KafkaJS keeps no more than the text of some. */
const signs: [RegExp, keyof typeof see][] = [
  [/mechanism is not supported|suitable SASL mechanism/, 'mechanism'],
  [/SASLAuthentication|SASL_AUTHENTICATION_FAILED|SASL authentication failed/, 'password'],
  [/SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_SIGNATURE_FAILURE|CERT_UNTRUSTED/, 'issuer'],
  [/ERR_TLS_CERT_ALTNAME/, 'name'],
  [/CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/, 'expired'],
  [/ERR_SSL_\S*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)/, 'own'],
  [/ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH)/, 'plain'],
]

/**
 * What a broker that has never answered may mean by ending connections: it says no word to who comes without TLS or a user
 * where it wants them, or with TLS where it has none. One that is stopping, and a load balancer that has none, do so too.
 */
export const closedDoor = (error: unknown): boolean =>
  [...behind(error)].some(({ message }) =>
    /closed connection|connection closed|before secure TLS connection was established/i.test(message),
  )
export const closedDoorWords =
  'Kafka ends the connection without an answer: if it wants TLS or a user, or has no TLS, see to KAFKA_TLS and KAFKA_SASL_MECHANISM, else to the port in KAFKA_BROKERS'

/** The error as a {@link NotAdmitted} where it is one, else as it was. */
export function inWords(error: unknown): unknown {
  if (error instanceof NotAdmitted) return error
  const texts = [...behind(error)].map(({ name, code, message }) => `${name} ${code} ${message}`)
  const found = signs.find(([sign]) => texts.some((text) => sign.test(text)))
  return found ? new NotAdmitted(see[found[1]], { cause: error }) : error
}
