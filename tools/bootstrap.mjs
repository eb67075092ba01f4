/**
 * Runs a command of the workspace: `node tools/bootstrap.mjs COMMAND [arguments]`.
 *
 * Plain JavaScript without dependencies, because it is what runs in a fresh clone with nothing but Node 20: it installs
 * the locked dependencies when they are missing or stale, and runs tools/src/commands/COMMAND.ts with the Node 24 among them.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import module from 'node:module'
import { delimiter, join, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { cleanProcessEnvironment } from './environment.mjs'

const repository = join(fileURLToPath(import.meta.url), '../..')
const commandsFolder = 'tools/src/commands'
const neededNode = 24
/** Code that was compiled before: a quicker start, and no TypeScript compiler in memory (20 MB). */
const compiled = join(repository, 'node_modules/.cache/shopstream/compiled')
const isMain =
  process.argv[1] !== undefined && realpathSync(process.argv[1]) === realpathSync(fileURLToPath(import.meta.url))

async function main([command, ...args]) {
  if (majorOf(process.version) < 20) {
    fail(
      `shopstream needs Node 20 or later to install itself; this is ${process.version}. Get one at https://nodejs.org`,
    )
  }
  if (repository.split(sep).includes('node_modules')) {
    fail(
      `shopstream runs its TypeScript as it is, which Node does in no folder below a node_modules: move ${repository}`,
    )
  }
  cleanProcessEnvironment()
  const commands = listCommands(repository)
  if (!command || command === '--help' || command === '-h') return console.log(help(commands))
  if (!commands.some(({ name }) => name === command)) fail(`there is no command "${command}"\n\n${help(commands)}`)
  await install(repository)
  await run(join(repository, commandsFolder, `${command}.ts`), args)
}

/** What each file of {@link commandsFolder} does is said by its first comment. */
export function listCommands(root) {
  const folder = join(root, commandsFolder)
  return readdirSync(folder)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => {
      const text = readFileSync(join(folder, file), 'utf8')
      const about = /^(?:#!.*\n)?\/\*\*\s*(?:\*\s*)?(?:`[^`]+`:\s*)?([^\n]*?)\s*(?:\*\/|\n)/.exec(text)?.[1] ?? ''
      return { name: file.slice(0, -3), about }
    })
}

function help(commands) {
  const width = Math.max(...commands.map(({ name }) => name.length))
  const lines = commands.map(({ name, about }) => `  ${name.padEnd(width)}  ${about}`)
  return `Usage: node tools/bootstrap.mjs COMMAND [arguments]   (npm start, npm run COMMAND -- arguments)\n\n${lines.join('\n')}`
}

/** Installs the locked dependencies and a Node for them unless they are there. Several at once wait for one of them. */
async function install(root) {
  const isComplete = () => isInstalled(root) && (isNewEnough(process.version) || findNode())
  if (isComplete()) return
  const folder = join(root, '.shopstream')
  let unlock = () => {}
  try {
    mkdirSync(folder, { recursive: true })
    unlock = await lock(join(folder, 'install.lock'))
    if (!isInstalled(root)) await npmCi(root)
    if (!isComplete()) await fetchNode(root)
  } catch (error) {
    if (!isRefused(error)) throw error
    fail(
      `The dependencies are to be installed, but this user may not write to ${root} (${error.code}): run it as its owner once.`,
    )
  } finally {
    unlock()
  }
}

const isRefused = ({ code }) => ['EACCES', 'EPERM', 'EROFS'].includes(code)

/** Whether node_modules holds what package-lock.json says for this platform. */
export function isInstalled(root) {
  const lockText = readFileSync(join(root, 'package-lock.json'), 'utf8')
  const stamp = readIfThere(stampFile(root))
  if (stamp === stampOf(lockText)) return true
  if (stamp !== undefined && platformOf(stamp) !== platformOf(stampOf(lockText))) return false
  // Installed by hand, or by a lock that asked for the same: npm keeps a list of what it has put there, written at the end.
  const installed = readIfThere(join(root, 'node_modules/.package-lock.json'))
  if (installed === undefined || !holds(JSON.parse(lockText).packages, JSON.parse(installed).packages)) return false
  try {
    writeStamp(root, lockText)
  } catch (error) {
    if (!isRefused(error)) throw error // another user's clone: only the next start is slower
  }
  return true
}

/** Whether the packages that npm lists as installed cover those that are locked; optional ones may be left out. */
export function holds(locked, installed) {
  // Node would find a copy that the lock no longer has before the copy that it has.
  if (Object.keys(installed).some((path) => path.includes('node_modules/') && !locked[path])) return false
  return Object.entries(locked).every(([path, { version, optional, devOptional, peer, link }]) => {
    if (!path.includes('node_modules/')) return true
    const there = installed[path]
    if (there) return link ? there.link === true : there.version === version
    return Boolean(optional || devOptional || peer)
  })
}

function stampFile(root) {
  return join(root, 'node_modules/.cache/shopstream/installed')
}

export function stampOf(lockText) {
  return `${createHash('sha256').update(lockText).digest('hex')} ${process.platform}-${process.arch}\n`
}

const platformOf = (stamp) => stamp.trim().split(' ').at(-1)

export function writeStamp(root, lockText) {
  mkdirSync(join(stampFile(root), '..'), { recursive: true })
  writeFileSync(stampFile(root), stampOf(lockText))
}

async function npmCi(root) {
  const lockText = readFileSync(join(root, 'package-lock.json'), 'utf8')
  const args = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error']
  const { output, how } = await npm(root, 'Installing the locked dependencies (npm ci)', args)
  if (how === 0) return writeStamp(root, lockText)
  const reason = output.trim().split('\n').slice(0, 12).join('\n') // npm says why first, and then how it is used
  fail(
    `${reason}\n\nThe dependencies could not be installed (npm ci ended with ${how}). What helps: a connection to npm's registry ` +
      '(behind a proxy: npm config set proxy …), some 700 MB of disk, and write access to this folder and to the cache of npm (npm_config_cache names another one). Then the same command again.',
  )
}

/** The one installation script that is run (.npmrc refuses all): the package `node` fetches the Node of this platform with it. */
async function fetchNode(root) {
  const args = ['rebuild', 'node', '--ignore-scripts=false', '--loglevel=error']
  const { output, how } = await npm(root, `Fetching Node ${neededNode} (npm rebuild node)`, args)
  if (findNode()) return
  fail(
    `${output.trim()}\n\nnode_modules has no Node ${neededNode}, this one is ${process.version}, and npm rebuild node ended with ${how}. ` +
      `What helps: a connection to npm's registry, then the same command again; or start with Node ${neededNode}.`,
  )
}

/** Runs npm with a line of progress; returns what it printed, and its exit code or what ended it. */
async function npm(root, what, args) {
  const done = progress(what)
  // Not with the Node of node_modules, which npm is about to replace.
  const env = { ...process.env, PATH: withoutModules(process.env.PATH ?? '') }
  for (const name of ['NODE', 'npm_node_execpath', 'NODE_OPTIONS', 'INIT_CWD']) delete env[name]
  const child = spawn('npm', args, {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: process.platform === 'win32',
  })
  forwardSignals(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const how = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
  done(how === 0)
  return { output, how }
}

function withoutModules(path) {
  return path
    .split(delimiter)
    .filter((folder) => !folder.endsWith(`node_modules${sep}.bin`))
    .join(delimiter)
}

/** One line that counts the seconds on a terminal, two lines elsewhere. */
function progress(what) {
  const begun = Date.now()
  const seconds = () => `${Math.round((Date.now() - begun) / 1000)} s`
  const isTerminal = process.stderr.isTTY
  process.stderr.write(isTerminal ? `${what} …` : `${what} …\n`)
  const timer = isTerminal && setInterval(() => process.stderr.write(`\r${what} … ${seconds()}`), 1_000)
  return (succeeded) => {
    clearInterval(timer)
    process.stderr.write(`${isTerminal ? '\r' : ''}${what}: ${succeeded ? 'done' : 'failed'} after ${seconds()}\n`)
  }
}

/** Holds a lock file, waiting for its owner to end; returns the function that releases it. */
export async function lock(file) {
  const limitMs = 30 * 60_000
  for (let told = false; ; ) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' })
      return () => rmSync(file, { force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const owner = Number(readIfThere(file))
    const since = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
    const age = Date.now() - since
    // An empty file is being written just now.
    const isAbandoned = owner ? !runs(owner) || age > limitMs : age > 5_000
    if (isAbandoned && since > 0) rmSync(file, { force: true })
    else if (!told) {
      process.stderr.write(`Another command (pid ${owner}) is installing the dependencies; waiting for it\n`)
      told = true
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function runs(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Runs a TypeScript file: in this process if it is new enough, else in the Node that was installed. */
async function run(file, args) {
  if (isNewEnough(process.version)) {
    process.argv = [process.execPath, file, ...args]
    module.enableCompileCache?.(compiled)
    watchParents(() => process.kill(process.pid, 'SIGTERM'))
    await import(pathToFileURL(file).href)
    return
  }
  const node = findNode()
  const child = spawn(node, [file, ...args], {
    stdio: 'inherit',
    env: { ...process.env, NODE_COMPILE_CACHE: compiled },
  })
  forwardSignals(child)
  watchParents(() => child.kill('SIGTERM'))
  child.once('error', (error) => fail(`${node} does not run: ${error.message}`))
  child.once('exit', (code, signal) => {
    if (!signal) process.exit(code ?? 1)
    for (const name of signals) process.removeAllListeners(name)
    process.kill(process.pid, signal) // end in the same way, so that a shell sees the same status
  })
}

/** The Node among the dependencies, if it was fetched and runs. */
function findNode() {
  const candidates = ['node_modules/node/bin/node', 'node_modules/.bin/node'].map((path) => join(repository, path))
  return candidates.find((path) => {
    const { status, stdout } = existsSync(path)
      ? spawnSync(path, ['--version'], { encoding: 'utf8' })
      : { status: 1, stdout: '' }
    return status === 0 && isNewEnough(stdout)
  })
}

const isNewEnough = (version) => majorOf(version) >= neededNode

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']

/** Ctrl-C reaches the child from the terminal as well: the child must accept the signal twice. */
function forwardSignals(child) {
  for (const signal of signals) process.on(signal, () => child.kill(signal))
}

/**
 * Calls `orphaned` once when the process that started this one has died, or, below npm, the one that started its shell:
 * a killed npm can tell nobody.
 */
function watchParents(orphaned) {
  const parent = process.ppid
  const grandparent = process.env.npm_lifecycle_event ? parentOf(parent) : undefined
  const timer = setInterval(() => {
    if (process.ppid === parent && (grandparent === undefined || parentOf(parent) === grandparent)) return
    clearInterval(timer)
    orphaned()
  }, 500)
  timer.unref()
}

/** On Linux from /proc; elsewhere unknown, since asking ps twice a second would cost more than it brings. */
function parentOf(pid) {
  const stat = readIfThere(`/proc/${pid}/stat`)
  return stat && Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
}

function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return undefined
    throw error
  }
}

function majorOf(version) {
  return Number(/\d+/.exec(version)?.[0])
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

if (isMain) await main(process.argv.slice(2))
