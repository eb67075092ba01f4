import { dataSettings, type Static, serviceSettings, settings, Type } from '@shopstream/config'

/** The environment of the notification service. */
export const configSchema = Type.Object({
  ...serviceSettings,
  ...dataSettings,
  SMTP_URL: settings.url('the SMTP server that takes the mails', {
    protocols: ['smtp', 'smtps'],
    example: 'smtp://user:password@127.0.0.1:1025',
  }),
  MAIL_FROM: settings.text('the sender of all mails, as an address or as name and address', {
    example: '"shopstream <shop@example.com>"',
  }),
})

export type Config = Static<typeof configSchema>
