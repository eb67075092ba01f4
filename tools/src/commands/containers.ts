/** `npm run containers`: the shop of docker-compose.yml, built, played, rolled under load and verified; needs a container engine. */
import { rmSync } from 'node:fs'
import { containerEngine } from '@shopstream/local-servers'
import { temporaryFolder } from '@shopstream/testing'
import { previousCommit } from '../proof/chaos/previous-version.ts'
import { runContainers } from '../proof/containers/run.ts'
import { readOptions } from '../terminal/options.ts'

const usage = `Usage: npm run containers [-- options]

Builds each image, starts the shop of docker-compose.yml in a project and on ports of its own, plays the README's tour and
the demo in it, starts it twice, ends and starts it again, rolls each service to another version and back while customers
order, and has the operators' image verify it. Prints what each image weighs, how soon it is ready and what it needs at rest.
Takes ten minutes or so, by the connection; ends with 1 when anything was lost, refused or run with more rights than it needs,
with 2 when no container engine answers.

  --previous REF  the commit to roll to and back; default: the one before the last that changed what runs
  --keep          leaves the containers running
  --help`

const { previous, keep } = readOptions(usage, {
  previous: { type: 'string' },
  keep: { type: 'boolean', default: false },
})

const say = (line: string) => console.log(`${new Date().toISOString().slice(11, 19)}  ${line}`)

async function main(): Promise<number> {
  const engine = await containerEngine()
  if (!engine) {
    console.error('No container engine answers: start Docker, or set DOCKER_HOST to one that runs.')
    return 2
  }
  const commit = previous ?? (await previousCommit()) ?? 'HEAD'
  const folder = temporaryFolder('containers')
  const report = await runContainers({ previous: commit, folder, keep, say })
  for (const { service, megabytes, secondsToReady, memory } of report.measured)
    console.log(
      `${service.padEnd(14)}${megabytes.toFixed(0).padStart(5)} MB beyond its base, ready after ${secondsToReady.toFixed(1)} s, ${memory} at rest`,
    )
  for (const problem of report.problems) console.log(problem)
  if (report.problems.length > 0) {
    console.log(`What clients were answered is in ${folder}.`)
    return 1
  }
  rmSync(folder, { recursive: true })
  console.log(`${report.answers} answers: nobody was refused, nothing was lost, nothing happened twice.`)
  return 0
}

process.exitCode = await main()
