import { createHash, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { cacheFolder, repository } from './paths.ts'
import { runCommand } from './process.ts'

export const kafkaFolder = join(repository, 'infra/kafka')
const pom = join(kafkaFolder, 'pom.xml')

/** Version of Apache Kafka that the local broker runs, as infra/kafka/pom.xml says. */
export const kafkaVersion = /<artifactId>kafka_[\d.]+<\/artifactId>\s*<version>([^<]+)</.exec(
  readFileSync(pom, 'utf8'),
)?.[1]

export interface Java {
  command: string
  /** Feature version: 17. */
  version: number
  /** All that it says about itself: it decides whether a class-data archive fits. */
  text: string
}

/** The Java of JAVA_HOME, else of the search path; undefined when there is none that runs. */
export async function findJava(env: NodeJS.ProcessEnv = process.env): Promise<Java | undefined> {
  const command = env.JAVA_HOME ? join(env.JAVA_HOME, 'bin/java') : 'java'
  try {
    const text = await runCommand(command, ['-version'], { env: javaEnvironment(env), limitMs: 20_000 })
    const version = Number(/version "(?:1\.)?(\d+)/.exec(text)?.[1])
    return Number.isNaN(version) ? undefined : { command, version, text }
  } catch {
    return undefined // not installed, or macOS's placeholder that only says where to get one
  }
}

/** Names of files are UTF-8 for Java too, which would go by the locale: under LC_ALL=C it finds no folder with an ü. */
const utf8Names = { LC_ALL: 'C.UTF-8' }

/**
 * The environment of a Java that is ours: without the flags that are meant for others, such as an agent with a port, a
 * proxy for all sockets, or a heap that is too small.
 */
export function javaEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const own = Object.entries(env).filter(([name]) => !/JAVA(_TOOL)?_OPTIONS$|^CLASSPATH$/.test(name))
  return { ...Object.fromEntries(own), ...utf8Names }
}

/** Whether Maven is installed. */
export async function findMaven(): Promise<string | undefined> {
  try {
    return /Apache Maven (\S+)/.exec(await runCommand('mvn', ['-v', '-B'], { limitMs: 20_000 }))?.[1]
  } catch {
    return undefined
  }
}

/** Kafka's jars, if Maven has fetched them before. */
export function knownKafkaJars(): string[] | undefined {
  const file = classpathFile()
  if (!existsSync(file)) return undefined
  const jars = readFileSync(file, 'utf8').trim().split(delimiter)
  return jars.length > 1 && jars.every((jar) => existsSync(jar)) ? jars : undefined
}

/** Kafka's jars as Maven names them, fetched when needed (44 MB) and kept in Maven's own repository, or where that cannot be in ours. */
export async function fetchKafkaJars(progress: (line: string) => void, signal?: AbortSignal): Promise<string[]> {
  const known = knownKafkaJars()
  if (known) return known
  progress(`Maven fetches Apache Kafka ${kafkaVersion} (44 MB, only this once)`)
  mkdirSync(cacheFolder, { recursive: true })
  const file = classpathFile()
  const fresh = `${file}.${randomUUID()}`
  const args = ['-f', pom, mavenGoal('build-classpath'), `-Dmdep.outputFile=${fresh}`]
  await runMaven('Apache Kafka', args, signal)
  renameSync(fresh, file)
  const jars = knownKafkaJars()
  if (!jars) throw new Error(`Maven named jars in ${file} that are not there`)
  return jars
}

/** A goal of the plugin that fetches. */
export const mavenGoal = (name: string) => `org.apache.maven.plugins:maven-dependency-plugin:3.8.1:${name}`

/** Lets Maven fetch `what`. Throws with what it needs for that. */
export async function runMaven(what: string, args: string[], signal?: AbortSignal): Promise<void> {
  const run = (...options: string[]) =>
    runCommand('mvn', ['-q', '-B', ...args, ...options], {
      cwd: cacheFolder, // where no other pom.xml is in the way
      env: { ...process.env, ...utf8Names },
      limitMs: 900_000,
      ...(signal && { signal }),
    })
  // Java takes the home of a user from the system and not from HOME: in a container it may be none.
  const elsewhere = (error: Error) => {
    if (!/local repository|Permission denied|AccessDenied|Read-only file system/i.test(error.message)) throw error
    return run(`-Dmaven.repo.local=${join(cacheFolder, 'maven')}`)
  }
  await run()
    .catch(elsewhere)
    .catch((error: Error) => {
      signal?.throwIfAborted()
      throw new Error(
        `Maven could not fetch ${what}: it needs a way to its repository (behind a proxy: ~/.m2/settings.xml) and a ` +
          `folder to keep it in (else MAVEN_OPTS=-Dmaven.repo.local=FOLDER).\n${error.message}`,
      )
    })
}

function classpathFile(): string {
  return join(cacheFolder, `kafka-${hash(readFileSync(pom, 'utf8'))}.classpath`)
}

function hash(...parts: string[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 16)
}

/**
 * Class-data archive of the local Kafka (start 1.4 s instead of 2.6 s, and a third less memory). One that fits this
 * Java, these jars and flags is used; otherwise the run writes one when it ends (4 s once) under a name of its own, which
 * {@link ClassArchive.keep} makes valid in one step: only a run that ended by itself has a complete one.
 */
export interface ClassArchive {
  flags(): string[]
  keep(): void
  discard(): void
}

export function classArchive(java: Java, jars: string[]): ClassArchive {
  const stamps = jars.map((jar) => `${jar} ${statSync(jar).size} ${statSync(jar).mtimeMs}`)
  const key = hash(java.text, readFileSync(join(kafkaFolder, 'jvm.options'), 'utf8'), ...stamps)
  const archive = join(cacheFolder, `kafka-${key}.jsa`)
  let writing: string | undefined
  const discard = () => {
    if (writing) rmSync(writing, { force: true })
    writing = undefined
  }
  return {
    flags() {
      if (archive.includes(delimiter)) return [] // Java would read two names
      if (existsSync(archive)) return [`-XX:SharedArchiveFile=${archive}`]
      removeAbandoned()
      writing = join(cacheFolder, `kafka-${key}.${process.pid}-${randomUUID()}.unfinished`)
      return [`-XX:ArchiveClassesAtExit=${writing}`]
    },
    keep() {
      if (writing && existsSync(writing)) renameSync(writing, archive)
      writing = undefined
    },
    discard,
  }
}

/** Unfinished archives of runs that were killed while writing them. */
function removeAbandoned(): void {
  const hour = 3_600_000
  for (const name of existsSync(cacheFolder) ? readdirSync(cacheFolder) : []) {
    const file = join(cacheFolder, name)
    if (!/\.unfinished$|\.classpath\..+/.test(name)) continue
    const { mtimeMs } = statSync(file, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() }
    if (Date.now() - mtimeMs > hour) rmSync(file, { force: true })
  }
}
