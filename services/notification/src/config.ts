import { ConfigError, dataSettings, type Static, serviceSettings, settings, Type } from '@shopstream/config'

/** The environment of the notification service. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  SMTP_URL: settings.url('the SMTP server that takes the mails', {
    protocols: ['smtp', 'smtps'],
    example: 'smtp://user:password@127.0.0.1:1025',
  }),
  /** For so long the SMTP server may think about a mail that it was given; RFC 5321 asks for ten minutes. */
  SMTP_ANSWER_TIMEOUT_SECONDS: settings.integer(600, { min: 10, max: 3_600 }),
  /** Without it mailings have no link by which their recipients can end them. */
  PUBLIC_URL: Type.Optional(
    settings.url('where the gateway is reached from outside, for links in mails', {
      protocols: ['https', 'http'],
      example: 'https://shop.example.org',
    }),
  ),
  MAIL_FROM: settings.text('the sender of all mails, as an address or as name and address', {
    example: '"shopstream <shop@example.com>"',
  }),
})

export type Config = Static<typeof configSchema>

/** The sender of all mails. Throws {@link ConfigError} when it holds no address: no mail would go out, and none should fail for that. */
export function senderOf({ MAIL_FROM }: Config): string {
  if (/^[^\p{Cc}]*[^\s@<>,]+@[^\s@<>,]+[^\p{Cc}]*$/u.test(MAIL_FROM)) return MAIL_FROM
  throw new ConfigError([
    'MAIL_FROM must hold one email address, for example MAIL_FROM="shopstream <shop@example.com>"',
  ])
}

/** What the schema cannot say, for whoever judges an environment before the service is started. */
export const checkConfig = senderOf
