import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { findJava, findMaven, type Java, javaEnvironment, mavenGoal, runMaven } from './java.ts'
import { cacheFolder } from './paths.ts'
import { type LocalProcess, startProcess } from './process.ts'
import { stopLeftover } from './process-identity.ts'

const version = '3.5.1'
const jar = join(cacheFolder, `zipkin-server-${version}-exec.jar`)

/** So many spans fit into its heap; the oldest traces go first. An order is some 40 of them. */
const spansKept = 100_000

const needed =
  'needs Java 17 or later and, the first time, Maven, which fetches it. Without them let spans go ' +
  'to a trace store that runs already: OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318 npm start, or for Zipkin ' +
  'OTEL_TRACES_EXPORTER=zipkin OTEL_EXPORTER_ZIPKIN_ENDPOINT=http://HOST:9411/api/v2/spans npm start'

/** Other ways to see traces, in words, where this machine has nothing to run Zipkin with. */
async function findJavaFor(env: NodeJS.ProcessEnv): Promise<Java | string> {
  const [java, maven] = await Promise.all([findJava(env), existsSync(jar) ? 'not needed' : findMaven()])
  if (java && java.version >= 17 && maven) return java
  return `${needed} (found: ${java ? `Java ${java.version}` : 'no Java'}, ${maven ? 'Maven' : 'no Maven'}).`
}

/** What this machine lacks for {@link startZipkin}, in words; undefined: nothing. */
export async function whyNoZipkin(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const found = await findJavaFor(env)
  return typeof found === 'string' ? found : undefined
}

/** The server with its page, as Maven names it, fetched when needed (131 MB) and kept beside what else is ours. */
async function fetchZipkin(progress: (line: string) => void, signal?: AbortSignal): Promise<void> {
  if (existsSync(jar)) return
  progress(`Maven fetches Zipkin ${version} (131 MB, only this once)`)
  const fresh = join(cacheFolder, `zipkin-${randomUUID()}`)
  mkdirSync(fresh, { recursive: true })
  const artifact = `-Dartifact=io.zipkin:zipkin-server:${version}:jar:exec`
  try {
    await runMaven('Zipkin', [mavenGoal('copy'), artifact, `-DoutputDirectory=${fresh}`], signal)
    renameSync(join(fresh, basename(jar)), jar) // whole or not at all
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

export interface ZipkinOptions {
  /** Holds its log and the record of the process; made when missing. Its traces are in memory, and end with it. */
  dir: string
  /** On 127.0.0.1. */
  port: number
  /** Says which Java; default `process.env`. */
  env?: NodeJS.ProcessEnv
  progress?: (line: string) => void
  onUnexpectedEnd?: (how: string) => void
  /** Ends a start that is still going on. */
  signal?: AbortSignal
}

/** Starts Zipkin on 127.0.0.1 and returns when it takes spans: about 5 s on an idle machine. Throws where Java is missing. */
export async function startZipkin(options: ZipkinOptions): Promise<LocalProcess> {
  const { dir, port, env = process.env, progress = () => {}, ...rest } = options
  mkdirSync(dir, { recursive: true })
  await stopLeftoverZipkin(dir)
  const java = await findJavaFor(env)
  if (typeof java === 'string') throw new Error(`Zipkin ${java}`)
  await fetchZipkin(progress, rest.signal)
  const heap = ['-Xms64m', '-Xmx256m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']
  const place = { ip: '127.0.0.1', port, 'protocols[0]': 'http' }
  const listener = Object.entries(place).map(([name, value]) => `-Darmeria.ports[0].${name}=${value}`)
  return startProcess({
    name: 'Zipkin',
    command: java.command,
    args: [...heap, ...listener, '-jar', jar],
    cwd: dir,
    env: { ...javaEnvironment(env), STORAGE_TYPE: 'mem', MEM_MAX_SPANS: String(spansKept) },
    port,
    logFile: join(dir, 'zipkin.log'),
    pidFile: join(dir, 'zipkin.pid'),
    ready: /Serving HTTP at/,
    readyLimitMs: 120_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 3_000,
    ...rest,
  })
}

/** Stops a Zipkin that a killed process left running in `dir`. Returns whether there was one. */
export async function stopLeftoverZipkin(dir: string): Promise<boolean> {
  return (await stopLeftover(join(dir, 'zipkin.pid'))) !== undefined
}
