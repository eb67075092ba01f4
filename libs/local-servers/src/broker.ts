import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { LocalProcess } from './process.ts'

export interface BrokerOptions {
  /** Holds its data, settings, log and the record of the process; made when missing. Its data outlive the process. */
  dir: string
  /** On 127.0.0.1. */
  port: number
  /** Must be the same at every start in this folder, and made of what a URL takes as it is. */
  password: string
  /** Its port then speaks TLS alone. PEM texts. */
  tls?: { ca: string; cert: string; key: string }
  onUnexpectedEnd?: (how: string) => void
  /** Ends a start that is still going on. */
  signal?: AbortSignal
}

export interface LocalBroker extends LocalProcess {
  /** With user and password. */
  readonly url: string
}

/** Whom every broker of this machine lets in, and nobody else. */
export const brokerUser = 'shopstream'

export const brokerUrl = (scheme: string, { port, password }: Pick<BrokerOptions, 'port' | 'password'>) =>
  `${scheme}://${brokerUser}:${password}@127.0.0.1:${port}`

export const withUrl = (running: LocalProcess, url: string): LocalBroker =>
  Object.defineProperties(running, { url: { value: url, enumerable: true } }) as LocalBroker

/** Makes the folder with what the server reads: its password stands in a file, as any user sees a command line. */
export function writeSettings(
  { dir, tls }: BrokerOptions,
  name: string,
  lines: readonly (string | false | undefined)[],
): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const texts = {
    [name]: `${lines.filter(Boolean).join('\n')}\n`,
    ...(tls && { 'ca.pem': tls.ca, 'cert.pem': tls.cert, 'key.pem': tls.key }),
  }
  for (const [file, text] of Object.entries(texts)) writeFileSync(join(dir, file), text, { mode: 0o600 })
}

/** Servers are kept there, which is not on every user's PATH. */
const places = ['/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin', '/opt/homebrew/bin']

export const searchPath = () => [...(process.env.PATH ?? '').split(delimiter), ...places].join(delimiter)

/** The first of these programs that this machine has. */
export const findProgram = (...names: string[]): string | undefined =>
  names
    .flatMap((name) =>
      searchPath()
        .split(delimiter)
        .map((place) => join(place, name)),
    )
    .find(isExecutable)

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
