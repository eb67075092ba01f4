/**
 * The mail sink as a process of its own. Environment: SMTP_PORT, MAIL_UI_PORT, MAIL_STORE (a file; none by default), MAIL_KEEP
 * (mails kept), MAIL_TROUBLE (a file with what goes wrong, as JSON, while it is there).
 */
import { existsSync, readFileSync } from 'node:fs'
import { startMailSink } from './mail-sink.ts'

const { SMTP_PORT = '1025', MAIL_UI_PORT = '1080', MAIL_STORE, MAIL_KEEP, MAIL_TROUBLE } = process.env
const sink = await startMailSink({
  smtpPort: Number(SMTP_PORT),
  uiPort: Number(MAIL_UI_PORT),
  ...(MAIL_STORE ? { store: MAIL_STORE } : {}),
  ...(MAIL_KEEP ? { keep: Number(MAIL_KEEP) } : {}),
  trouble: () =>
    MAIL_TROUBLE && existsSync(MAIL_TROUBLE) ? JSON.parse(readFileSync(MAIL_TROUBLE, 'utf8')) : undefined,
})
console.log(`mail sink: ${sink.smtpUrl}, inbox ${sink.uiUrl}`)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void sink.close())
