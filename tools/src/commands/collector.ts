/** `npm run collector`: an OpenTelemetry Collector, built from infra/collector the first time, run with the arguments that it takes. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { buildCollector, collectorFolder } from '../local/collector.ts'

const usage = `Usage: npm run collector [-- ARGUMENTS OF THE COLLECTOR]

Builds the collector of infra/collector where that was not done before, which takes Go and some minutes, and runs it until
Ctrl-C. Without arguments it takes spans at 127.0.0.1:4318 and passes them on to the Zipkin of npm start -- --traces.

  --config FILE            a configuration; several are merged
  validate --config FILE   says what is wrong with it
  components               says which there are
  --help                   this

Its metrics and logs too go to Datadog with:

  npm run collector -- --config infra/collector/collector.yaml --config infra/collector/datadog.yaml

docs/monitoring says which configurations there are. COLLECTOR_BIN names a collector that is there already.`

const args = process.argv.slice(2)
if (args.includes('--help') || args.includes('-h')) console.log(usage)
else
  await main(
    args.length > 0 ? args : ['collector.yaml', 'zipkin.yaml'].map((file) => `--config=${join(collectorFolder, file)}`),
  )

async function main(given: string[]): Promise<void> {
  try {
    const program = await buildCollector((line) => console.error(line))
    const child = spawn(program, given, { stdio: 'inherit' })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
    child.once('error', (error) => fail(`${program} does not run: ${error.message}`))
    child.once('exit', (code) => process.exit(code ?? 1))
  } catch (error) {
    fail((error as Error).message)
  }
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}
