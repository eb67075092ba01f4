import { rmSync } from 'node:fs'
import { afterEach, expect, test } from '@jest/globals'
import { temporaryFolder } from '@shopstream/testing'
import { companions } from '../../local/companions.ts'
import { brokersUnderProof, type ProvenBroker } from './brokers.ts'
import { runUnderKills } from './under-kills.ts'

/** BRIDGES_SEED and BRIDGES_EVENTS take another course of kills, and another number of events each way, through all there is. */
const seed = process.env.BRIDGES_SEED ?? '17'
const events = Number(process.env.BRIDGES_EVENTS ?? 1_000)

let home: string | undefined
afterEach(() => {
  if (home) rmSync(home, { recursive: true, force: true })
})

const all = Object.keys(brokersUnderProof) as ProvenBroker[]
for (const broker of all.filter((one) => process.env.BRIDGES_EVENTS || one !== 'celery on rabbitmq')) {
  const lacks = await companions[brokersUnderProof[broker].companion].whyNot(process.env)
  const prove = lacks ? test.skip : test
  prove(
    `${events} events each way through ${broker}, while bridge, broker, Kafka and Postgres are killed, seed ${seed}${lacks ? ` (skipped: this machine ${lacks})` : ''}`,
    async () => {
      home = temporaryFolder('bridges')
      const result = await runUnderKills({ broker, seed, events, home })
      console.info(JSON.stringify({ broker, seed, ...result, wrong: result.wrong.length }))
      expect(result.wrong.slice(0, 20)).toEqual([])
      expect(result.in.events).toBe(events)
    },
    600_000,
  )
}
