import { spawn } from 'node:child_process'
import { json } from 'node:stream/consumers'
import { repository } from '@shopstream/testing'
import { startShop } from '../local/shop.ts'
import type { Summary } from '../operations/verify.ts'
import type { Grown } from './data.ts'
import type { Say } from './measure.ts'

/** Times `verify` over a shop that is filled with orders and everything that came of them. */
export async function verify(say: Say, { grown }: { grown: Grown }) {
  const { orders } = grown.contents
  const shop = await startShop({ home: await grown.home() })
  try {
    const { checks, discrepancies, rows, seconds, peakMegabytes } = await verifyAlone(shop.home)
    for (const { name, rows, findings } of checks)
      say(`${name}: ${rows} rows${findings.map(({ message }) => `\n    ${message}`).join('')}`)
    say(
      `${discrepancies} discrepancies; ${rows} rows in ${seconds} s, ${peakMegabytes} MB of memory at most in its process`,
    )
    if (discrepancies > 0) throw new Error('verify finds discrepancies')
    return { orders, discrepancies, rows, seconds, peakMegabytes }
  } finally {
    await shop.stop()
  }
}

/** Throws when the running shop of a folder has lost something, or has it twice. */
export async function mustBeRight(home: string, say: Say): Promise<void> {
  const { checks, discrepancies, rows, seconds } = await verifyAlone(home)
  say(`verify: ${discrepancies} discrepancies; ${rows} rows in ${seconds} s`)
  const found = checks.flatMap(({ findings }) => findings.map(({ message }) => message))
  if (discrepancies > 0) throw new Error(`verify finds discrepancies:\n${found.slice(0, 10).join('\n')}`)
}

/** In a process of its own, whose memory is its own. */
async function verifyAlone(home: string): Promise<Summary> {
  const child = spawn(process.execPath, ['tools/src/commands/shop.ts', 'verify', '--json'], {
    cwd: repository,
    env: { ...process.env, SHOPSTREAM_HOME: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return (await json(child.stdout)) as Summary
}
