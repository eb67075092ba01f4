import type { SendingPolicy } from './policy.ts'

/** How the SMTP server answers the mails of all lanes, once it was reached. */
export interface Answers {
  /** A mail was begun with; `heard` tells what came of it, with the reason if it was left without an answer. */
  begin(): { heard(unanswered?: string): void }
  /** Throws while the server takes connections and answers no mail. */
  check(): void
}

/** Other mails need not wait for a server that drops mails or is silent, but somebody has to know of it. */
export function createAnswers({ silentMs, unansweredMails, unansweredForMs }: SendingPolicy): Answers {
  const waiting = new Set<{ since: number }>()
  let answeredAt = Number.NEGATIVE_INFINITY
  let unanswered = { times: 0, reason: '', at: 0 }

  return {
    begin() {
      const one = { since: performance.now() }
      waiting.add(one)
      return {
        heard(reason) {
          waiting.delete(one)
          if (reason !== undefined) unanswered = { times: unanswered.times + 1, reason, at: performance.now() }
          else {
            unanswered = { times: 0, reason: '', at: 0 }
            answeredAt = performance.now()
          }
        },
      }
    },
    check() {
      const { times, reason, at } = unanswered
      if (times >= unansweredMails && performance.now() - at < unansweredForMs)
        throw new Error(
          `the SMTP server has left the last ${times} attempts without an answer (${reason}); each mail is tried again a few times`,
        )
      const [oldest] = waiting
      const silence = oldest ? performance.now() - Math.max(oldest.since, answeredAt) : 0
      if (silence > silentMs)
        throw new Error(
          `the SMTP server has answered nothing for ${Math.round(silence / 1_000)} s; mails that wait for it: ${waiting.size}`,
        )
    },
  }
}
