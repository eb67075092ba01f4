import { rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Certificates,
  findJava,
  freePort,
  hasOpenssl,
  type LocalKafka,
  makeCertificates,
  startKafka,
  temporaryFolder,
} from '@shopstream/local-servers'
import type { KafkaIdentity } from '@shopstream/messaging/operations'

/** What this machine lacks for {@link startSecuredKafka}, in words; undefined: nothing. */
export async function lacksForSecuredKafka(): Promise<string | undefined> {
  const [openssl, java] = await Promise.all([hasOpenssl(), findJava()])
  if (!openssl) return 'openssl makes its certificates, and is not on this machine'
  return java ? undefined : 'Java runs it, and is not on this machine'
}

export interface SecuredKafka {
  kafka: LocalKafka
  brokers: readonly string[]
  /** Where a certificate is wanted instead of a user. */
  certificateBrokers: readonly string[]
  certificates: Certificates
  /** How a user comes in, with its own password. */
  as(
    user: string,
    mechanism?: 'plain' | 'scram-sha-256' | 'scram-sha-512',
  ): KafkaIdentity & Required<Pick<KafkaIdentity, 'sasl'>>
  stop(): Promise<void>
}

/**
 * A Kafka of a test's own, with TLS and an authority made for it, where each user has a password and needs ACLs for
 * everything; `admin`, who is always there, needs none. Each user has a certificate, too.
 */
export async function startSecuredKafka(users: readonly string[], sessionMs?: number): Promise<SecuredKafka> {
  const dir = temporaryFolder('secured-kafka')
  const all = ['admin', ...users]
  const passwords = Object.fromEntries(all.map((user) => [user, `${user}-secret-1`]))
  const certificates = await makeCertificates(join(dir, 'certificates'), ['broker', ...all])
  const certificatePort = await freePort()
  const identities = { certificates, users: passwords, certificatePort, ...(sessionMs && { sessionMs }) }
  const kafka = await startKafka({ dir: join(dir, 'kafka'), identities })
  return {
    kafka,
    brokers: kafka.brokers,
    certificateBrokers: [`127.0.0.1:${certificatePort}`],
    certificates,
    as: (username, mechanism = 'scram-sha-512') => ({
      tls: { ca: certificates.ca },
      sasl: { mechanism, username, password: passwords[username] ?? '' },
    }),
    async stop() {
      await kafka.stop()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
