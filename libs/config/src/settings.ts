import { Type } from 'typebox'

/** What a setting may add to its schema; the words end up in the error text. */
export interface Words {
  /** What it is, as in "the port that clients connect to". */
  description?: string
  /** A value that works, without its name. */
  example?: string
  /** Settings without which this one has no effect: where they are not set, or false, it is refused. */
  needs?: string[]
}

const integer = (defaultValue: number, { min, max, ...words }: Words & { min: number; max: number }) =>
  Type.Integer({ default: defaultValue, minimum: min, maximum: max, example: String(defaultValue), ...words })

/**
 * The kinds of settings, as TypeBox schemas that `readConfig` understands. One without a default must be set, unless it
 * is wrapped in `Type.Optional`.
 */
export const settings = {
  /** A TCP port; 0 lets the system choose one. */
  port: (defaultValue?: number, words: Words = {}) =>
    Type.Integer({
      minimum: 0,
      maximum: 65_535,
      description: 'the port to listen on',
      example: String(defaultValue ?? 8080),
      ...(defaultValue !== undefined && { default: defaultValue }),
      ...words,
    }),
  /** A whole number from `min` to `max`; the unit belongs into its name (`…_MS`, `…_SECONDS`). */
  integer,
  /** `true` or `false`; `1` and `0` do too. */
  flag: (defaultValue: boolean, words: Words = {}) =>
    Type.Boolean({ default: defaultValue, example: String(!defaultValue), ...words }),
  /** An absolute URL of one of the schemes in `example`'s place, such as `http://…`; its text never gets into errors. */
  url: (description: string, { protocols = ['http', 'https'], ...words }: Words & { protocols?: string[] } = {}) =>
    Type.String({ format: 'url', protocols, description, example: `${protocols[0]}://127.0.0.1:8080`, ...words }),
  /** A list separated by commas; `pattern` is what each entry must match. */
  list: (description: string, { pattern, ...words }: Words & { pattern?: string } = {}) =>
    Type.Array(Type.String({ minLength: 1, ...(pattern && { pattern }) }), { minItems: 1, description, ...words }),
  /** Text that is shown to nobody, of at least `minLength` characters. */
  secret: (description: string, { minLength = 1, ...words }: Words & { minLength?: number; pattern?: string } = {}) =>
    Type.String({ minLength, secret: true, description, ...words }),
  /** Any text, or what matches `pattern`. */
  text: (
    description: string,
    { defaultValue, pattern, ...words }: Words & { defaultValue?: string; pattern?: string } = {},
  ) =>
    Type.String({
      description,
      ...(defaultValue !== undefined && { default: defaultValue }),
      ...(pattern && { pattern }),
      ...words,
    }),
  /** One of some words. */
  choice: <const Values extends string[]>(values: [...Values], defaultValue: Values[number], words: Words = {}) =>
    Type.Enum(values, { default: defaultValue, example: defaultValue, ...words }),
}

/** What every process reads. */
export const serviceSettings = {
  NODE_ENV: settings.choice(['development', 'test', 'production'], 'development'),
  LOG_LEVEL: settings.choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  /** Readable lines for people, JSON in production. */
  LOG_FORMAT: Type.Enum(['json', 'pretty'], {
    example: 'json',
    default: (env: NodeJS.ProcessEnv) => (env.NODE_ENV === 'production' ? 'json' : 'pretty'),
  }),
  HOST: settings.text('the address to listen on', { defaultValue: '127.0.0.1' }),
  PORT: settings.port(),
  /** How long stopping may take before the process ends anyway, in ms. */
  SHUTDOWN_TIMEOUT_MS: integer(10_000, { min: 100, max: 600_000 }),
  /**
   * The same for the gateway and the services; by it they prove to the gateway who they are, and it sends nothing to
   * anybody else. Without it the gateway trusts its addresses.
   */
  SERVICE_IDENTITY_SECRET: Type.Optional(
    Type.String({ minLength: 32, secret: true, description: 'by which services prove to the gateway who they are' }),
  ),
}

const certificate = { pattern: '-----BEGIN CERTIFICATE-----', example: "'-----BEGIN CERTIFICATE-----…'" }

/** How whoever speaks to Kafka proves who it is, and knows the brokers: the same for services, operators and deployment. */
export const kafkaIdentitySettings = {
  KAFKA_TLS: settings.flag(false, { description: 'whether Kafka is spoken to by TLS' }),
  KAFKA_TLS_CA: Type.Optional(
    settings.secret("who signed the brokers' certificates, as PEM; default: whom Node trusts", {
      ...certificate,
      needs: ['KAFKA_TLS'],
    }),
  ),
  KAFKA_TLS_CERT: Type.Optional(
    settings.secret('the certificate that is shown to brokers, as PEM', {
      ...certificate,
      needs: ['KAFKA_TLS', 'KAFKA_TLS_KEY'],
    }),
  ),
  KAFKA_TLS_KEY: Type.Optional(
    settings.secret('the private key of that certificate, as PEM, not encrypted', {
      pattern: '-----BEGIN ([A-Z]+ )?PRIVATE KEY-----',
      example: "'-----BEGIN PRIVATE KEY-----…'",
      needs: ['KAFKA_TLS', 'KAFKA_TLS_CERT'],
    }),
  ),
  KAFKA_SASL_MECHANISM: Type.Optional(
    Type.Enum(['plain', 'scram-sha-256', 'scram-sha-512'], {
      description: 'how the password is proved to brokers',
      example: 'scram-sha-512',
      needs: ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD'],
    }),
  ),
  KAFKA_SASL_USERNAME: Type.Optional(
    settings.text('who this is to brokers, as their ACLs name it', {
      example: 'order',
      needs: ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_PASSWORD'],
    }),
  ),
  KAFKA_SASL_PASSWORD: Type.Optional(
    settings.secret('the password of KAFKA_SASL_USERNAME', { needs: ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_USERNAME'] }),
  ),
}

/** What every service with a database reads besides. */
export const dataSettings = {
  DATABASE_URL: settings.url("the service's own database, with its role and password", {
    protocols: ['postgres', 'postgresql'],
    example: 'postgres://order:password@127.0.0.1:54320/order',
  }),
  /** Needed where DATABASE_URL leads through a pooler in transaction mode: for the lock of the relay and for migrations. */
  DATABASE_DIRECT_URL: Type.Optional(
    settings.url('the same database, by the same role, past any pooler', {
      protocols: ['postgres', 'postgresql'],
      example: 'postgres://order:password@127.0.0.1:54320/order',
    }),
  ),
  /** Connections for requests and the service's own loops. The relay has one besides. */
  DATABASE_POOL_SIZE: integer(10, { min: 1, max: 200 }),
  /** Connections for consumers, which requests cannot take from them, nor they from requests: 4 chunks, a retry, a look. */
  DATABASE_CONSUMER_POOL_SIZE: integer(6, { min: 1, max: 200 }),
  KAFKA_BROKERS: settings.list('Kafka brokers as host:port, separated by commas', {
    pattern: '^[^\\s:]+:\\d{1,5}$|^\\[[0-9a-fA-F:]+\\]:\\d{1,5}$',
    example: '127.0.0.1:9092',
  }),
  ...kafkaIdentitySettings,
  /** Which client speaks to Kafka; docs/adr/0017 says what each is for. */
  KAFKA_CLIENT: settings.choice(['kafkajs', 'platformatic'], 'kafkajs'),
  /** Bytes that a batch of records may have when it is unpacked; a larger one stops its partition, and is told. */
  KAFKA_BATCH_LIMIT_BYTES: integer(16_777_216, { min: 65_536, max: 1_073_741_824 }),
  /** More parked messages than this, or an older one, degrade readiness and raise an alert; none is ever dropped. */
  PARKED_LIMIT_COUNT: integer(1_000, { min: 1, max: 1_000_000_000 }),
  PARKED_LIMIT_AGE_SECONDS: integer(3_600, { min: 1, max: 31_536_000 }),
  /** Put before every topic and group, so that several shops or tests share one Kafka. */
  KAFKA_TOPIC_PREFIX: settings.text('a prefix for topic and group names, of letters, digits, dot, _ and -', {
    defaultValue: '',
    pattern: '^[A-Za-z0-9._-]{0,100}$',
    example: 'test.',
  }),
  /** Age of the oldest event that waits for Kafka from which readiness is degraded. */
  OUTBOX_LIMIT_AGE_SECONDS: integer(300, { min: 1, max: 604_800 }),
  /** Age from which no new work is taken. */
  OUTBOX_SHED_AGE_SECONDS: integer(3_600, { min: 1, max: 604_800 }),
  /** Bytes of the outbox from which no new work is taken while it is past the first age: before the disk is full. */
  OUTBOX_SHED_BYTES: integer(1_073_741_824, { min: 1, max: 1_099_511_627_776 }),
}
