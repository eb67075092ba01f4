/** What the shell says to other programs must not decide about ours. Plain JavaScript, because bootstrap.mjs runs it first. */
import { existsSync } from 'node:fs'

/** Who says which Postgres is meant may say by PGSSLMODE and the like how it is reached. */
const namesPostgres = /^((TEST_)?POSTGRES|(USER|ORDER|INVENTORY|NOTIFICATION)_DATABASE)_URL$/
const loopback = '127.0.0.1,localhost,::1'

/**
 * An environment without what was meant for others: libpq's variables, which Postgres's client takes for whatever a URL
 * leaves open, unless a Postgres is named; a folder for temporary files that is not there. And nothing on this machine is
 * asked through a proxy.
 */
export function ownEnvironment(env) {
  const keepsPostgres = Object.keys(env).some((name) => env[name] && namesPostgres.test(name))
  const isForeign = ([name, value]) =>
    (name.startsWith('PG') && !keepsPostgres) || (name === 'TMPDIR' && !existsSync(value))
  const own = Object.entries(env).filter((entry) => entry[1] !== undefined && !isForeign(entry))
  const direct = withoutProxy(env.no_proxy || env.NO_PROXY || '')
  return { ...Object.fromEntries(own), NO_PROXY: direct, no_proxy: direct }
}

function withoutProxy(names) {
  if (names === '*' || names.includes(loopback)) return names
  return names ? `${names},${loopback}` : loopback
}

/** Makes this process's environment such a one, for itself and all that it starts. */
export function cleanProcessEnvironment() {
  const own = ownEnvironment(process.env)
  for (const name of Object.keys(process.env)) if (!(name in own)) delete process.env[name]
  Object.assign(process.env, own)
}
