import { beforeAll, expect, test } from '@jest/globals'
import { bounded, createPasswords, type Passwords } from './passwords.ts'

let passwords: Passwords
beforeAll(async () => {
  passwords = await createPasswords()
})

test('a password is hashed by argon2id with the parameters of OWASP, with a salt of its own', async () => {
  const hash = await passwords.hash('correct horse battery')
  expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  expect(await passwords.hash('correct horse battery')).not.toBe(hash)
  expect(await passwords.verify(hash, 'correct horse battery')).toBe(true)
  expect(await passwords.verify(hash, 'correct horse batterz')).toBe(false)
})

test('composed and decomposed letters are the same password', async () => {
  expect(await passwords.verify(await passwords.hash('contraseña larga'), 'contrasen\u0303a larga')).toBe(true)
})

test('nobody’s password takes as long as somebody’s, and is never right', async () => {
  const hash = await passwords.hash('correct horse battery')
  const times = { known: Number.POSITIVE_INFINITY, unknown: Number.POSITIVE_INFINITY }
  for (let i = 0; i < 9; i++) {
    for (const [who, of] of [
      ['known', hash],
      ['unknown', undefined],
    ] as const) {
      const start = performance.now()
      expect(await passwords.verify(of, 'wrong horse battery')).toBe(false)
      times[who] = Math.min(times[who], performance.now() - start) // the least disturbed of several
    }
  }
  expect(times.unknown / times.known).toBeGreaterThan(0.6)
  expect(times.unknown / times.known).toBeLessThan(1.6)
})

test('a few run at once, some wait in order, the others are told to come back', async () => {
  const turns = bounded({ atOnce: 2, waiting: 3 })
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>())
  const begun: number[] = []
  const runs = gates.map((gate, i) =>
    turns.run(async () => {
      begun.push(i)
      await gate.promise
      if (i === 1) throw new Error('failed')
    }),
  )
  const outcomes = Promise.allSettled(runs)
  await expect(turns.run(async () => {})).rejects.toMatchObject({ code: 'busy', status: 503 })
  expect(begun).toEqual([0, 1])
  for (const gate of gates) gate.resolve()
  expect((await outcomes).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', ...Array(3).fill('fulfilled')])
  expect(begun).toEqual([0, 1, 2, 3, 4])
  expect(turns.waiting()).toBe(0)
})

test('work that nobody waits for any more is not begun', async () => {
  const turns = bounded({ atOnce: 1, waiting: 1 })
  let begun = false
  const work = turns.run(async () => {
    begun = true
  }, AbortSignal.abort())
  await expect(work).rejects.toMatchObject({ code: 'busy' })
  expect(begun).toBe(false)
  await expect(turns.run(async () => 'done')).resolves.toBe('done')
})
