/** `npm run doctor`: what the local shop needs, each thing found or missing, and what to do. */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs'
import { freemem, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { ConfigError } from '@shopstream/config'
import { checkPostgres, isFree, kafkaVersion, repository } from '@shopstream/local-servers'
import { chooseWay, findKafkaWays, type KafkaWays } from '../local/kafka.ts'
import { paint } from '../local/log-lines.ts'
import { readSettings } from '../local/services.ts'
import { defaultPorts, type PortName, type StackSettings } from '../local/settings.ts'
import { claimant, homeFolder } from '../local/state-folder.ts'
import { readOptions } from '../terminal/options.ts'

/** `blocks`: the shop cannot start; `note`: it can, but one may want to know. */
interface Diagnosis {
  state: 'found' | 'note' | 'blocks'
  what: string
  todo?: string
}

const usage = `Usage: npm run doctor

Says what the local shop needs on this machine: each thing found or missing, and what to do. Exit code 1 when it cannot
start here.`

readOptions(usage, {})
const colour = process.stdout.isTTY === true && !process.env.NO_COLOR
const marks = {
  found: paint(32, 'found  ', colour),
  note: paint(33, 'note   ', colour),
  blocks: paint(31, 'missing', colour),
}

const findings = await examine(process.env)
for (const { state, what, todo } of findings) {
  console.log(`${marks[state]}  ${what}`)
  if (todo) console.log(`${' '.repeat(9)}-> ${todo}`)
}
const blocking = findings.filter(({ state }) => state === 'blocks').length
console.log(
  blocking === 0 ? '\nThe shop can start here: npm start' : `\nThe shop cannot start here: ${blocking} missing.`,
)
process.exitCode = blocking === 0 ? 0 : 1

async function examine(env: NodeJS.ProcessEnv): Promise<Diagnosis[]> {
  const home = homeFolder(env)
  const base: Diagnosis[] = [
    { state: 'found', what: `Node ${process.version}, from ${process.execPath}` },
    { state: 'found', what: `npm packages in ${join(repository, 'node_modules')}, as package-lock.json says` },
  ]
  try {
    const { settings, explicit } = await readSettings(env)
    const [kafka, postgres, ports] = await Promise.all([
      examineKafka(settings, env),
      examinePostgres(settings),
      examinePorts(explicit, home),
    ])
    return [...base, ...kafka, postgres, ...ports, examineDisk(home), examineMemory()]
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return [
      ...base,
      ...error.problems.map(
        (what): Diagnosis => ({ state: 'blocks', what, todo: 'set the variable to such a value, or unset it' }),
      ),
    ]
  }
}

async function examineKafka(settings: StackSettings, env: NodeJS.ProcessEnv): Promise<Diagnosis[]> {
  const ways = await findKafkaWays(env, true)
  const isGiven = settings.KAFKA_BROKERS !== undefined
  const chosen = isGiven ? `KAFKA_BROKERS (${settings.KAFKA_BROKERS})` : nameOf(chooseWay(ways))
  const parts = [javaFinding(ways), mavenFinding(ways), engineFinding(ways)]
  return [
    ...parts,
    chosen
      ? { state: 'found', what: `a way to Kafka: ${chosen}` }
      : {
          state: 'blocks',
          what: 'a way to Kafka',
          todo: 'install Java 17 and Maven, or a container engine with docker compose, or set KAFKA_BROKERS',
        },
  ]
}

function nameOf(way: ReturnType<typeof chooseWay>): string | undefined {
  return way && { java: `Java with Apache Kafka ${kafkaVersion}`, container: 'container engine' }[way]
}

function javaFinding({ java }: KafkaWays): Diagnosis {
  if (!java)
    return { state: 'note', what: 'no Java', todo: 'apt install openjdk-17-jre-headless, or brew install openjdk' }
  if (java.version < 17)
    return {
      state: 'note',
      what: `Java ${java.version}`,
      todo: 'Kafka needs 17 or later; JAVA_HOME says which one is taken',
    }
  return { state: 'found', what: `Java ${java.version} (${java.command})` }
}

function mavenFinding({ maven, jars }: KafkaWays): Diagnosis {
  if (jars)
    return {
      state: 'found',
      what: `Kafka ${kafkaVersion}'s jars, fetched by Maven before${maven ? ` (Maven ${maven})` : ''}`,
    }
  if (maven) return { state: 'found', what: `Maven ${maven}; the first start fetches Kafka ${kafkaVersion} (44 MB)` }
  return { state: 'note', what: 'no Maven', todo: 'apt install maven, or brew install maven; it fetches Kafka' }
}

function engineFinding({ engine }: KafkaWays): Diagnosis {
  if (!engine)
    return {
      state: 'note',
      what: 'no container engine answers',
      todo: 'only needed without Java, or for TEST_BACKEND=containers: start Docker',
    }
  if (!engine.compose)
    return {
      state: 'note',
      what: `container engine ${engine.version} without "docker compose"`,
      todo: 'install its compose plugin',
    }
  return { state: 'found', what: `container engine ${engine.version} with compose` }
}

async function examinePostgres({ POSTGRES_URL }: StackSettings): Promise<Diagnosis> {
  if (POSTGRES_URL) return { state: 'found', what: `POSTGRES_URL (${new URL(POSTGRES_URL).host})` }
  const postgres = await checkPostgres()
  if ('version' in postgres) return { state: 'found', what: `embedded Postgres ${postgres.version}` }
  return {
    state: 'blocks',
    what: `embedded Postgres: ${postgres.problem}`,
    todo: 'npm ci, or set POSTGRES_URL to a running one',
  }
}

async function examinePorts(explicit: Partial<Record<PortName, number>>, home: string): Promise<Diagnosis[]> {
  const pid = claimant(home)
  if (pid !== undefined)
    return [
      {
        state: 'note',
        what: `the shop runs already (pid ${pid}) and has its ports`,
        todo: 'stop it before another npm start',
      },
    ]
  const names = Object.keys(defaultPorts) as PortName[]
  const checked = await Promise.all(
    names.map(async (name) => ({
      name,
      port: explicit[name] ?? defaultPorts[name],
      free: await isFree(explicit[name] ?? defaultPorts[name]),
    })),
  )
  const busy = checked.filter(({ free }) => !free)
  if (busy.length === 0) return [{ state: 'found', what: `free ports: ${checked.map(({ port }) => port).join(', ')}` }]
  return busy.map(({ name, port }): Diagnosis => {
    const isExplicit = explicit[name] !== undefined
    return isExplicit
      ? {
          state: 'blocks',
          what: `port ${port} (${name}) is busy`,
          todo: 'stop what listens there, or set another port',
        }
      : {
          state: 'note',
          what: `port ${port} (${name}) is busy`,
          todo: 'nothing: a free one is taken, and the table of npm start says which',
        }
  })
}

function examineDisk(home: string): Diagnosis {
  const folder = existsSync(home) ? home : dirname(home)
  const { bavail, bsize } = statfsSync(folder)
  const gigabytes = (bavail * bsize) / 1024 ** 3
  if (!isWritable(folder))
    return { state: 'blocks', what: `${folder} cannot be written`, todo: 'set SHOPSTREAM_HOME to a folder that can' }
  if (gigabytes < 0.5)
    return {
      state: 'blocks',
      what: `${gigabytes.toFixed(1)} GB of disk in ${folder}`,
      todo: 'the shop needs half a gigabyte',
    }
  return { state: 'found', what: `${gigabytes.toFixed(0)} GB of disk in ${folder}` }
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}

function examineMemory(): Diagnosis {
  const [free, total] = [freemem(), totalmem()].map((bytes) => (bytes / 1024 ** 3).toFixed(1))
  const what = `${total} GB of memory, ${free} GB free`
  return freemem() < 0.8 * 1024 ** 3
    ? { state: 'note', what, todo: 'the shop takes 0.7 GB; close something' }
    : { state: 'found', what }
}
