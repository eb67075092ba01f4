import { join } from 'node:path'
import { stopLeftover, stopLeftoverPostgres, stopLeftoverZipkin } from '@shopstream/local-servers'
import { stopStackKafkaLeftover } from './kafka.ts'
import { type ServiceName, serviceNames } from './services.ts'

/** Stops what a stack that was killed has left behind. Its services end by themselves, but not in an instant. */
export async function cleanUp(home: string, env: NodeJS.ProcessEnv, progress: (line: string) => void): Promise<void> {
  const stopServices = serviceNames.map(async (name) => {
    return (await stopLeftover(pidFile(home, name), { limitMs: 3_000 })) !== undefined && name
  })
  const left = (await Promise.all(stopServices)).filter(Boolean)
  const [kafka, postgres, zipkin] = await Promise.all([
    stopStackKafkaLeftover(home, env),
    stopLeftoverPostgres(join(home, 'postgres')),
    stopLeftoverZipkin(join(home, 'zipkin')),
  ])
  const found = [...left, kafka && 'Kafka', postgres && 'Postgres', zipkin && 'Zipkin'].filter(Boolean)
  if (found.length > 0) progress(`stopped what an earlier start that was killed had left: ${found.join(', ')}`)
}

export const pidFile = (home: string, service: ServiceName) => join(home, `${service}.pid`)
