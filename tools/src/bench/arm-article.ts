import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder, freePort, runCommand, startPostgres, startProcess, temporaryFolder } from '@shopstream/testing'
import { virtualEnvironment } from '../local/python.ts'
import { type Arm, openCounter, ordersOf, startArm, startProgram } from './arm.ts'

const source = join(import.meta.dirname, 'article')
/** On two cores four workers do no more than two; see docs/performance.md. */
const gunicorn = ['gunicorn', 'shop.wsgi', '--keep-alive', '75', '--worker-class', 'gthread', '--workers', '2'].concat([
  '--threads',
  '4',
])
const celery = ['celery', '-A', 'shop', 'worker', '--concurrency', '2', '--loglevel', 'WARNING'].concat([
  '--without-gossip',
  '--without-mingle',
  '--without-heartbeat',
])

/** The stack of the article that this project comes from: Django behind gunicorn, Celery, RabbitMQ, one Postgres. */
export const article: Arm = {
  name: 'Django and Celery',
  words:
    'one program, one database; loses what a crash leaves between its database and its broker, and doubles what is redelivered',
  lacks() {
    if (spawnSync('python3', ['-c', 'import ensurepip, venv']).status !== 0) return 'Python 3 with venv'
    return rabbitServer() ? undefined : 'RabbitMQ (rabbitmq-server)'
  },
  start: (clients, say) =>
    startArm(async (undo) => {
      const folder = join(cacheFolder, 'bench/article')
      const python = await virtualEnvironment(folder, join(source, 'requirements.txt'), { say })
      const home = temporaryFolder('bench-article')
      undo.push(async () => rmSync(home, { recursive: true, force: true }))
      const password = 'of-a-benchmark'
      const [postgres, rabbit] = await Promise.all([
        startPostgres({ dir: join(home, 'postgres'), password }),
        startRabbit(join(home, 'rabbitmq')),
      ])
      undo.push(postgres.stop, rabbit.stop)
      const env = {
        PYTHONPATH: source,
        PYTHONPYCACHEPREFIX: join(home, 'bytecode'),
        DJANGO_SETTINGS_MODULE: 'shop.settings',
        ARTICLE_POSTGRES_HOST: '127.0.0.1',
        ARTICLE_POSTGRES_PORT: String(postgres.port),
        ARTICLE_POSTGRES_PASSWORD: password,
        ARTICLE_RABBITMQ_URL: rabbit.url,
      }
      const filling = [join(source, 'fill.py'), String(clients), '20']
      const printed = await runCommand(python, filling, { env: { PATH: process.env.PATH, ...env } })
      const { skus, tokens } = JSON.parse(printed.trim().split('\n').at(-1) as string) as Record<string, string[]>
      const port = await freePort()
      const program = async (name: string, args: string[], at: number, ready: RegExp) => {
        const running = await startProgram({ name, home, command: python, args: ['-m', ...args], env, port: at, ready })
        undo.push(running.stop)
      }
      await program('gunicorn', [...gunicorn, '--bind', `127.0.0.1:${port}`], port, /Listening at/)
      await program('celery', celery, rabbit.port, /\[queues\]/)
      const mails = openCounter(postgres.url, 'select count(*)::int as n from shop_mail')
      undo.push(mails.close)
      return {
        plan: { url: `http://127.0.0.1:${port}/orders`, clients: ordersOf(tokens ?? [], skus ?? []) },
        confirmed: mails.count,
      }
    }),
}

/** Debian's own command changes the user; the one that it runs does not. */
function rabbitServer(): string | undefined {
  const folder = '/usr/lib/rabbitmq/lib'
  const versions = existsSync(folder) ? readdirSync(folder) : []
  return versions.map((version) => join(folder, version, 'sbin/rabbitmq-server')).find((file) => existsSync(file))
}

/** A RabbitMQ of one node on 127.0.0.1, as it is set up when it is installed. */
async function startRabbit(dir: string) {
  mkdirSync(dir, { recursive: true })
  const [port, between, epmd] = [await freePort(), await freePort(), await freePort()]
  writeFileSync(join(dir, 'enabled_plugins'), '[].')
  writeFileSync(join(dir, 'rabbitmq.conf'), '')
  const running = await startProcess({
    name: 'RabbitMQ',
    command: rabbitServer() as string,
    args: [],
    cwd: dir,
    env: {
      PATH: process.env.PATH,
      HOME: dir,
      RABBITMQ_NODENAME: `bench${port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_NODE_PORT: String(port),
      RABBITMQ_DIST_PORT: String(between),
      RABBITMQ_MNESIA_BASE: join(dir, 'mnesia'),
      RABBITMQ_LOG_BASE: join(dir, 'log'),
      RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'enabled_plugins'),
      RABBITMQ_PID_FILE: join(dir, 'pid'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      ERL_EPMD_ADDRESS: '127.0.0.1',
      ERL_EPMD_PORT: String(epmd),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    },
    port,
    logFile: join(dir, 'rabbitmq.log'),
    pidFile: join(dir, 'rabbitmq.pid'),
    ready: /completed with \d+ plugins/,
    readyLimitMs: 90_000,
    stopSignal: 'SIGTERM',
    stopLimitMs: 15_000,
  })
  const stop = async () => {
    await running.stop()
    // The port mapper goes on for ever after the node that began it.
    spawnSync('epmd', ['-kill'], { env: { PATH: process.env.PATH, ERL_EPMD_PORT: String(epmd) } })
  }
  return { port, url: `amqp://guest:guest@127.0.0.1:${port}//`, stop }
}
