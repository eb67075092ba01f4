import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { Recipient } from '../tables.ts'
import { applyUserEvents, type UserEvent, type UserMessage, unknownRecipient } from './recipients.ts'

const ana = '01900000-0000-7000-8000-0000000000aa'

function message(type: UserEvent, sequence: number, email = `ana${sequence}@example.com`): UserMessage {
  const common = { id: `event-${sequence}`, type, key: ana, sequence: BigInt(sequence), time: new Date(0) }
  const place = { topic: 'shop.user.v1', partition: 0, offset: 0n, traceparent: `trace-${sequence}` }
  const profile = { userId: ana, email, displayName: 'Ana', roles: ['customer'], registeredAt: new Date(0) }
  const data = type === 'UserErased' ? { userId: ana, erasedAt: new Date(0) } : profile
  return { ...common, ...place, data } as UserMessage
}

const known = (recipient: Partial<Recipient>) => new Map([[ana, { ...unknownRecipient(ana), ...recipient }]])

test('somebody who registered is remembered and welcomed', () => {
  const { recipients, welcomes } = applyUserEvents(known({}), [message('UserRegistered', 1)])
  expect(recipients).toEqual([{ user_id: ana, email: 'ana1@example.com', erased: false, sequence: 1n }])
  expect(welcomes).toEqual([{ kind: 'welcome', userId: ana, causeId: 'event-1', facts: {}, traceparent: 'trace-1' }])
})

test.each([
  ['delivered again', known({ sequence: 1n, email: 'ana1@example.com' })],
  ['outdated', known({ sequence: 4n, email: 'ana4@example.com' })],
  ['of an erased user', known({ sequence: 2n, erased: true })],
])('an event that is %s changes nothing', (_what, before) => {
  expect(applyUserEvents(before, [message('UserRegistered', 1)])).toEqual({ recipients: [], welcomes: [] })
})

test('erasing leaves no address, and is final', () => {
  const { recipients } = applyUserEvents(known({}), [
    message('UserRegistered', 1),
    message('UserErased', 2),
    message('UserProfileChanged', 3),
  ])
  expect(recipients).toEqual([{ user_id: ana, email: null, erased: true, sequence: 3n }])
})

test('however often and in whatever chunks events come, the end is the same and there is one welcome', () => {
  const history = [message('UserRegistered', 1), ...[2, 3, 4].map((n) => message('UserProfileChanged', n))]
  const chunks = fc.array(fc.array(fc.constantFrom(...history), { maxLength: 6 }), { maxLength: 8 })
  fc.assert(
    fc.property(chunks, (delivered) => {
      let state: ReadonlyMap<string, Recipient> = known({})
      let welcomes = 0
      for (const chunk of [...delivered, history]) {
        const changes = applyUserEvents(state, chunk)
        welcomes += changes.welcomes.length
        state = new Map([...state, ...changes.recipients.map((each) => [each.user_id, each] as const)])
      }
      expect(state.get(ana)).toMatchObject({ email: 'ana4@example.com', sequence: 4n })
      expect(welcomes).toBeLessThanOrEqual(1)
    }),
  )
})
