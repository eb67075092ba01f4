import { expect, test } from '@jest/globals'
import type { Logger } from '@shopstream/observability'
import { createAbsence } from './absence.ts'

test('the other side is told as there again when it takes something, and not when a place has moved', () => {
  const told: string[] = []
  const listen = (level: string) => (_: unknown, words: string) => told.push(`${level}: ${words}`)
  const absence = createAbsence({ info: listen('info'), warn: listen('warn') } as unknown as Logger)
  absence.tell('topic/0', new Error('the queue is full'))
  absence.leave('topic/0')
  expect(absence.now()).toBeUndefined()
  expect(told).toEqual(['warn: the other side of the bridge takes nothing now'])
  absence.tell('topic/0', new Error('the queue is full'))
  expect(absence.now()?.reason).toBe('the queue is full')
  absence.tell('topic/0')
  expect(told.at(-1)).toBe('info: the other side of the bridge is there again')
})
