import { join } from 'node:path'
import { stopLeftover, stopLeftoverPostgres } from '@shopstream/local-servers'
import { companionNames, companions } from './companions.ts'
import { stopStackKafkaLeftover } from './kafka.ts'
import { type ServiceName, serviceNames } from './services.ts'

/** Stops what a stack that was killed has left behind. Its services end by themselves, but not in an instant. */
export async function cleanUp(home: string, env: NodeJS.ProcessEnv, progress: (line: string) => void): Promise<void> {
  const stopServices = serviceNames.map(async (name) => {
    return (await stopLeftover(pidFile(home, name), { limitMs: 3_000 })) !== undefined && name
  })
  const left = (await Promise.all(stopServices)).filter(Boolean)
  const stopCompanions = companionNames.map(async (name) => {
    return (await companions[name].stopLeftover(join(home, name))) && companions[name].title
  })
  const [kafka, postgres, ...beside] = await Promise.all([
    stopStackKafkaLeftover(home, env),
    stopLeftoverPostgres(join(home, 'postgres')),
    ...stopCompanions,
  ])
  const found = [...left, kafka && 'Kafka', postgres && 'Postgres', ...beside].filter(Boolean)
  if (found.length > 0) progress(`stopped what an earlier start that was killed had left: ${found.join(', ')}`)
}

export const pidFile = (home: string, service: ServiceName) => join(home, `${service}.pid`)
