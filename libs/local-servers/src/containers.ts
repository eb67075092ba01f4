import { existsSync } from 'node:fs'
import { request } from 'node:http'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** A container engine that answers: where, and what it calls itself. */
export interface Engine {
  address: string
  version: string
}

/** Looks for a running Docker (or compatible) engine: DOCKER_HOST, else the usual sockets. Takes at most a second each. */
export async function containerEngine(env: NodeJS.ProcessEnv = process.env): Promise<Engine | undefined> {
  const sockets = [
    '/var/run/docker.sock',
    join(homedir(), '.docker/run/docker.sock'),
    `/run/user/${process.getuid?.()}/docker.sock`,
  ]
  const addresses = env.DOCKER_HOST
    ? [env.DOCKER_HOST]
    : sockets.filter((path) => existsSync(path)).map((path) => `unix://${path}`)
  for (const address of addresses) {
    const version = await askVersion(address)
    if (version) return { address, version }
  }
  return undefined
}

function askVersion(address: string): Promise<string | undefined> {
  const target = targetOf(address)
  if (!target) return Promise.resolve(undefined)
  return new Promise((resolve) => {
    const asked = request({ ...target, path: '/version', timeout: 1_000 }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text) => (body += text))
      response.on('end', () => resolve(versionIn(body)))
    })
    asked.once('timeout', () => asked.destroy(new Error('no answer')))
    asked.once('error', () => resolve(undefined)) // nobody there, or not for us: then there is no engine to use
    asked.end()
  })
}

/** A socket's path is taken as it stands, whatever a URL would make of it. */
function targetOf(address: string) {
  if (address.startsWith('unix://')) return { socketPath: address.slice('unix://'.length) }
  const url = URL.parse(address)
  if (!url || !['tcp:', 'http:'].includes(url.protocol)) return undefined
  return { host: url.hostname, port: url.port || 2375 }
}

function versionIn(body: string): string | undefined {
  try {
    return JSON.parse(body).Version
  } catch {
    return undefined // something else listens there
  }
}
