import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { decideRetry, pauseAfter, reasonOf, type SmtpError, sendingPolicy, type Trouble, troubleOf } from './policy.ts'
import { createAnswers } from './smtp-replies.ts'

test.each<[string, SmtpError, Trouble]>([
  ['nobody listens', { code: 'ESOCKET' }, 'unreachable'],
  ['the connection broke', { code: 'ECONNECTION' }, 'unreachable'],
  ['no answer in time', { code: 'ETIMEDOUT' }, 'unreachable'],
  ['our time limit', { code: 'EABORT' }, 'unreachable'],
  ['unknown host', { code: 'EDNS' }, 'unreachable'],
  ['wrong credentials', { code: 'EAUTH', responseCode: 535 }, 'unreachable'],
  ['the server shuts down', { code: 'EENVELOPE', responseCode: 421, command: 'RCPT TO' }, 'unreachable'],
  ['greylisting', { code: 'EENVELOPE', responseCode: 451, command: 'RCPT TO' }, 'deferred'],
  ['mailbox full', { code: 'EMESSAGE', responseCode: 452, command: 'DATA' }, 'deferred'],
  ['no such user', { code: 'EENVELOPE', responseCode: 550, command: 'RCPT TO' }, 'refused'],
  ['content refused', { code: 'EMESSAGE', responseCode: 554, command: 'DATA' }, 'refused'],
  ['sender refused', { code: 'EENVELOPE', responseCode: 550, command: 'MAIL FROM' }, 'deferred'],
  ['bad sequence', { code: 'EENVELOPE', responseCode: 503, command: 'RCPT TO' }, 'deferred'],
  ['no usable address', { code: 'EENVELOPE' }, 'refused'],
  ['something else', {}, 'deferred'],
  ['gone before there was a session', { code: 'ECONNECTION', stage: 'session' }, 'unreachable'],
  ['gone at the recipient', { code: 'ECONNECTION', stage: 'envelope' }, 'deferred'],
  ['silent at the recipient', { code: 'ETIMEDOUT', stage: 'envelope' }, 'deferred'],
  ['shutting down at the recipient', { code: 'EENVELOPE', responseCode: 421, stage: 'envelope' }, 'deferred'],
  ['gone after the data', { code: 'ECONNECTION', stage: 'data' }, 'unknown'],
  ['silent after the data', { code: 'ETIMEDOUT', stage: 'data' }, 'unknown'],
  ['stopped after the data', { code: 'EABORT', stage: 'data' }, 'unknown'],
  ['gone in the middle of an answer', { code: 'ECONNECTION', responseCode: 451, stage: 'data' }, 'unknown'],
  ['an answer that is none', { code: 'EMESSAGE', responseCode: 354, stage: 'data' }, 'unknown'],
  ['content refused after the data', { code: 'EMESSAGE', responseCode: 554, stage: 'data' }, 'refused'],
  ['shutting down after the data', { code: 'EMESSAGE', responseCode: 421, stage: 'data' }, 'deferred'],
  ['without SMTPUTF8', { code: 'EUNSUPPORTED', detail: 'words' }, 'refused'],
  ['without AUTH', { code: 'EUNSUPPORTED', detail: 'words', stage: 'session' }, 'unreachable'],
])('%s', (_what, error, trouble) => {
  expect(troubleOf(error)).toBe(trouble)
})

test.each<[SmtpError, string]>([
  [
    { responseCode: 550, command: 'RCPT TO', response: '550 5.1.1 <ana@example.com>: no such user' },
    'SMTP 550 5.1.1 at RCPT TO',
  ],
  [{ responseCode: 554, response: '554 ana@example.com is a spammer' }, 'SMTP 554'],
  [{ code: 'ESOCKET' }, 'ESOCKET'],
  [{}, 'unexpected error'],
  [{ code: 'EUNSUPPORTED', detail: 'words' }, 'words'],
  [{ code: 'ETIMEDOUT', stage: 'data' }, "outcome unknown: no answer after the mail's data (ETIMEDOUT)"],
  [{ code: 'ETIMEDOUT', stage: 'envelope' }, "no answer before the mail's data (ETIMEDOUT)"],
  [
    { code: 'EMESSAGE', responseCode: 554, response: '554 5.7.1 no', command: 'DATA', stage: 'data' },
    'SMTP 554 5.7.1 at DATA',
  ],
])('a reason tells no address: %j', (error, reason) => {
  expect(reasonOf(error)).toBe(reason)
})

test.each<[Trouble, number, unknown]>([
  ['unreachable', 0, { do: 'retry', inMs: 0, problems: 0 }],
  ['unreachable', 1_000, { do: 'retry', inMs: 0, problems: 1_000 }],
  ['refused', 0, { do: 'retry', inMs: 2_000, problems: 1 }],
  ['refused', 1, { do: 'retry', inMs: 4_000, problems: 2 }],
  ['refused', 2, { do: 'fail', problems: 3 }],
  ['deferred', 58, { do: 'retry', inMs: 900_000, problems: 59 }],
  ['deferred', 59, { do: 'fail', problems: 60 }],
  ['unknown', 0, { do: 'retry', inMs: 15_000, problems: 1 }],
  ['unknown', 3, { do: 'retry', inMs: 120_000, problems: 4 }],
  ['unknown', 4, { do: 'fail', problems: 5 }],
])('%s after %d problems', (trouble, problems, decision) => {
  expect(decideRetry(trouble, problems, sendingPolicy, 0)).toEqual(decision)
})

test.each([
  [600_000, true],
  [0, false],
])('that mails were left without an answer is told for %d ms', (unansweredForMs, isTold) => {
  const answers = createAnswers({ ...sendingPolicy, unansweredForMs })
  for (const _ of Array(sendingPolicy.unansweredMails)) answers.begin().heard('ETIMEDOUT')
  const check = expect(answers.check)
  if (isTold) check.toThrow('without an answer (ETIMEDOUT)')
  else check.not.toThrow()
})

test('pauses grow to their limit and are never shorter than four fifths of the plan', () => {
  const backoff = { baseMs: 100, maxMs: 10_000 }
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000 }), fc.double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
      const pause = pauseAfter(failures, backoff, random)
      expect(pause).toBeLessThanOrEqual(10_000)
      expect(pause).toBeGreaterThanOrEqual(80)
      expect(pauseAfter(failures + 1, backoff, 0)).toBeGreaterThanOrEqual(pauseAfter(failures, backoff, 0))
    }),
  )
})
