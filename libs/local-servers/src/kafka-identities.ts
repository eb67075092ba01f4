import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from './process.ts'

/** What makes a Kafka one that lets nobody in whom it does not know, and lets nobody do what no ACL allows. */
export interface KafkaIdentities {
  /** PEM files of the broker, from {@link makeCertificates}. */
  certificates: Certificates
  /** Passwords by user, for PLAIN and SCRAM. The user `admin` may do everything. */
  users: Readonly<Record<string, string>>
  /** For those that show a certificate instead: its common name is the user. */
  certificatePort: number
  /** After so long a session ends that was not renewed (connections.max.reauth.ms); default: never. */
  sessionMs?: number
}

export interface Certificates {
  /** PEM of who signed all others. */
  ca: string
  of(name: string): { cert: string; key: string }
}

/** Whether this machine has openssl. */
export const hasOpenssl = (): Promise<boolean> =>
  runCommand('openssl', ['version'], { limitMs: 10_000 }).then(
    () => true,
    () => false,
  )

/**
 * Makes an authority of its own in `dir`, and certificates of these names for 127.0.0.1 and localhost, with openssl. The
 * broker's is `broker`.
 */
export async function makeCertificates(dir: string, names: readonly string[], days = 1): Promise<Certificates> {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const openssl = (...args: string[]) => runCommand('openssl', args, { cwd: dir, limitMs: 30_000 })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    `${days}`,
    '-subj',
    '/CN=test authority',
  )
  writeFileSync(join(dir, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n')
  for (const name of names) {
    await openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.request`, '-subj', `/CN=${name}`)
    const signing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'names', '-days', `${days}`]
    await openssl('x509', '-req', '-in', `${name}.request`, ...signing, '-out', `${name}.pem`)
  }
  const read = (file: string) => readFileSync(join(dir, file), 'utf8')
  return { ca: read('ca.pem'), of: (name) => ({ cert: read(`${name}.pem`), key: read(`${name}.key`) }) }
}

/** Settings of a node with these; the files that they name are written into `dir`. */
export function identitySettings(dir: string, { certificates, users, sessionMs }: KafkaIdentities) {
  const { cert, key } = certificates.of('broker')
  writeFileSync(join(dir, 'broker.pem'), key + cert, { mode: 0o600 })
  writeFileSync(join(dir, 'ca.pem'), certificates.ca)
  const passwords = Object.entries(users).map(([user, password]) => `user_${user}="${password}"`)
  const login = (module: string, ...options: string[]) =>
    `org.apache.kafka.common.security.${[module, 'required', ...options].join(' ')};`
  return {
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'allow.everyone.if.no.acl.found': 'false',
    'super.users': 'User:admin;User:broker',
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': 'broker.pem',
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': 'ca.pem',
    'ssl.principal.mapping.rules': 'RULE:^CN=([^,]+).*$/$1/',
    'listener.name.ssl.ssl.client.auth': 'required',
    'listener.name.controller.ssl.client.auth': 'required',
    'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    'listener.name.sasl_ssl.plain.sasl.jaas.config': login('plain.PlainLoginModule', ...passwords),
    'listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config': login('scram.ScramLoginModule'),
    'listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config': login('scram.ScramLoginModule'),
    ...(sessionMs && { 'connections.max.reauth.ms': String(sessionMs) }),
  }
}

/** Arguments by which a new node knows its users: the first of them have to be there before anybody can make more. */
export const scramArguments = ({ users }: KafkaIdentities): string[] =>
  Object.entries(users).flatMap(([name, password]) =>
    ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
      '--add-scram',
      `${mechanism}=[name=${name},password=${password}]`,
    ]),
  )
