import { rmSync } from 'node:fs'
import { type Mail, temporaryFolder } from '@shopstream/testing'
import type { Customer } from '../../local/client.ts'
import type { ServiceName } from '../../local/services.ts'
import { ownPorts, type Ports } from '../../local/settings.ts'
import { type ShopOptions, startShop } from '../../local/shop.ts'

export interface OpenShop {
  home?: string
  env?: NodeJS.ProcessEnv
  ports?: Ports
  only?: readonly ServiceName[]
  around?: ShopOptions['around']
  with?: ShopOptions['with']
}

/** A shop of a test's own: own folder, own ports, own Kafka and Postgres. With TEST_LOG_LEVEL what it prints goes to stderr; `lines` has what services log. */
export async function openShop({
  home = temporaryFolder('e2e'),
  env = {},
  ports,
  only,
  around,
  with: beside = [],
}: OpenShop = {}) {
  const level = process.env.TEST_LOG_LEVEL
  const lines: string[] = []
  const tell = (line: string) => level && process.stderr.write(`${line}\n`)
  const shop = await startShop({
    home,
    env: { ...withoutTestSettings(process.env), LOG_LEVEL: level ?? 'info', ...env },
    ports: ports ?? (await ownPorts()),
    ...(only && { only }),
    ...(around && { around }),
    with: beside,
    onLine(service, line) {
      lines.push(line)
      tell(`${service} ${line}`)
    },
    onProgress: (line) => tell(`shop ${line}`),
  })
  return { shop, home, tell, lines, forget: () => rmSync(home, { recursive: true, force: true }) }
}

const withoutTestSettings = ({ KAFKA_BROKERS: _, POSTGRES_URL: __, ...env }: NodeJS.ProcessEnv) => env

/** The mails about something, one per Message-ID. */
export function mailsAbout(mails: readonly Mail[], text: string): Mail[] {
  const about = mails.filter((mail) => mail.text.includes(text))
  return [...new Map(about.map((mail) => [mail.headers['message-id'], mail])).values()]
}

export const mailsTo = (mails: readonly Mail[], { email }: Pick<Customer, 'email'>) =>
  mails.filter(({ to }) => to.some(({ address }) => address === email))
