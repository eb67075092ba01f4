/** Shell settings for other programs must not change ours. Plain JavaScript, because bootstrap.mjs runs it first. */
import { existsSync } from 'node:fs'

/** If one of these names a Postgres, PGSSLMODE and the like may say how to reach it. */
const namesPostgres = /^((TEST_)?POSTGRES|(USER|ORDER|INVENTORY|NOTIFICATION)_DATABASE)_URL$/
const loopback = '127.0.0.1,localhost,::1'

/**
 * An environment without settings for other programs: libpq's variables, which Postgres's client takes for whatever a
 * URL leaves open (unless a Postgres is named), and a missing folder for temporary files. Nothing on this machine is
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

/** Cleans this process's environment in this way, for itself and all that it starts. */
export function cleanProcessEnvironment() {
  const own = ownEnvironment(process.env)
  for (const name of Object.keys(process.env)) if (!(name in own)) delete process.env[name]
  Object.assign(process.env, own)
}
