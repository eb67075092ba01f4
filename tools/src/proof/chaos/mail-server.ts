import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Mail, type MailSinkOptions, type MailTrouble, repository } from '@shopstream/testing'
import type { Mailbox } from '../../local/shop.ts'
import type { SupervisedService } from '../../local/supervisor.ts'
import { type ProcessSurroundings, superviseNode } from './processes.ts'

const mailsKept = 1_000_000

/** The SMTP server, a process of its own: files say what it has taken, and what is to go wrong. */
export interface MailServer {
  /** Undefined before it was started. */
  readonly process: SupervisedService | undefined
  start(options: MailSinkOptions): Promise<Mailbox>
  /** Every mail that was accepted, or left without an answer. */
  mails(): Mail[]
  /** What it does with the mails that come from now on; undefined: answers them. */
  trouble(trouble: MailTrouble | undefined): void
}

/** @param folder holds the files. */
export function createMailServer(folder: string, surroundings: ProcessSurroundings): MailServer {
  const store = join(folder, 'mails.jsonl')
  const troubleFile = join(folder, 'mail-trouble.json')
  const mails = () => (existsSync(store) ? wholeLines(readFileSync(store, 'utf8')) : [])
  let smtp: SupervisedService | undefined
  return {
    get process() {
      return smtp
    },
    mails,
    async start({ smtpPort, uiPort }) {
      smtp = superviseNode(surroundings, {
        name: 'smtp',
        script: 'libs/local-servers/src/mail-sink-main.ts',
        cwd: repository,
        env: {
          SMTP_PORT: String(smtpPort),
          MAIL_UI_PORT: String(uiPort),
          MAIL_STORE: store,
          MAIL_KEEP: String(mailsKept),
          MAIL_TROUBLE: troubleFile,
        },
        readyUrl: `http://127.0.0.1:${uiPort}/healthz`,
      })
      return { smtpUrl: `smtp://127.0.0.1:${smtpPort}`, mails, close: async () => smtp?.stop(2_000) }
    },
    trouble(trouble) {
      if (!trouble) return rmSync(troubleFile, { force: true })
      writeFileSync(`${troubleFile}.new`, JSON.stringify(trouble))
      renameSync(`${troubleFile}.new`, troubleFile)
    },
  }
}

/** The last line may be half written. */
const wholeLines = (text: string): Mail[] =>
  text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
