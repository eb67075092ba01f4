/**
 * Kafka, Postgres, mail and what may run beside them on this machine, without any client of theirs: what the local stack needs, whose process stays
 * small that way.
 */
export { type BrokerOptions, brokerUrl, type LocalBroker } from './broker.ts'
export { containerEngine } from './containers.ts'
export { eventually, type Patience } from './eventually.ts'
export { fetchKafkaJars, findJava, findMaven, type Java, kafkaVersion, knownKafkaJars } from './java.ts'
export {
  type KafkaClusterOptions,
  type KafkaListener,
  type KafkaOptions,
  kafkaSettings,
  type LocalKafka,
  type LocalKafkaCluster,
  startKafka,
  startKafkaCluster,
  stopLeftoverKafka,
} from './kafka.ts'
export { type Certificates, hasOpenssl, type KafkaIdentities, makeCertificates } from './kafka-identities.ts'
export {
  type Mail,
  type MailAddress,
  type MailSink,
  type MailSinkOptions,
  type MailTrouble,
  startMailSink,
} from './mail-sink.ts'
export { startNats, stopLeftoverNats, whyNoNats } from './nats.ts'
export { cacheFolder, repository } from './paths.ts'
export { type PgBouncer, type PgBouncerOptions, pgBouncerBinary, startPgBouncer } from './pgbouncer.ts'
export { answers, freePort, isFree } from './ports.ts'
export {
  checkPostgres,
  copyAsStandby,
  type LocalPostgres,
  type PostgresOptions,
  removePostgres,
  startPostgres,
  stopLeftoverPostgres,
} from './postgres.ts'
export { isFromOutside, type LocalProcess, runCommand, startProcess } from './process.ts'
export { type Identity, identify, isAlive, parseIdentity, stopLeftover, writeIdentity } from './process-identity.ts'
export { startRabbitmq, stopLeftoverRabbitmq, whyNoRabbitmq } from './rabbitmq.ts'
export { startRedis, stopLeftoverRedis, whyNoRedis } from './redis.ts'
export { temporaryFolder } from './temporary.ts'
export { startZipkin, stopLeftoverZipkin, whyNoZipkin } from './zipkin.ts'
