import { shop } from '../../terminal/format.ts'
import {
  allSeen,
  archivedAs,
  type Check,
  event,
  events,
  excused,
  type Found,
  handled,
  list,
  named,
  ofEvent,
  show,
  showKey,
  text,
  unlessUnread,
  unreadOf,
} from './check.ts'

/** The mail that each event asks for. */
export const mailKinds = {
  UserRegistered: 'welcome',
  OrderConfirmed: 'confirmed',
  OrderRejected: 'rejected',
  OrderShipped: 'shipped',
  OrderCancelled: 'cancelled',
}

const mailTopics = ['shop.user.v1', 'shop.order.v1']

/** When a UUIDv7 was made; for other ids a time that is always recent enough to be judged. */
const sqlTimeOfId = (id: string) => `case when substr(${id}::text, 15, 1) = '7'
    then to_timestamp(('x' || lpad(substr(replace(${id}::text, '-', ''), 1, 12), 16, '0'))::bit(64)::bigint / 1000.0)
    else 'infinity' end`

const topicOfMail = (type: string) => (type === 'UserRegistered' ? 'shop.user.v1' : 'shop.order.v1')

const missingMail: Check = {
  name: 'missing-mail',
  promise: 'each event that asks for a mail has its notification',
  at: { notification: mailTopics },
  looked: () =>
    `select count(*) from fact as f ${handled} where ${events(mailTopics)} and f.type = any(${list(Object.keys(mailKinds))})`,
  // A registration that was told again, as another event, has its mail from the first one.
  sql: () => `
    with unanswered as (
      select f.topic, f.key, f.sequence, f.type
      from fact as f ${handled} left join notification as n on n.cause_id = f.event_id
        left join archived as gone on gone.key = f.event_id
      where ${events(mailTopics)} and f.type = any(${list(Object.keys(mailKinds))}) and f.sequence is not null
        and not ${excused('f.topic', 'f.key')}
      group by f.topic, f.key, f.sequence, f.type having count(n.id) = 0 and count(gone.key) = 0)
    select u.topic || ' ' || u.key || ' ' || u.sequence as subject, u.*
    from unanswered as u
    left join notification as n on u.type = 'UserRegistered' and n.kind = 'welcome' and n.user_id::text = u.key
    where n.id is null
      and not exists (select 1 from ${archivedAs('u.key')} and u.type = 'UserRegistered')`,
  message: (found) => `${ofEvent(found)} (${named(found.type)}) has caused no notification`,
  about: (found) => [event(found)],
  commands: showKey,
}

const extraMail: Check = {
  name: 'extra-mail',
  promise: 'each notification has the one event that asks for it, and each event one notification',
  at: { notification: mailTopics },
  looked: () => `select count(*) from notification where kind = any(${list(Object.values(mailKinds))})`,
  // Only what was made before the moment: its cause was in the topic before that was read. A join, because "not exists"
  // beside an "or" looks through all facts for each of a million mails.
  sql: () => `
    with asked as (
      select * from (values ${Object.entries(mailKinds)
        .map(([type, kind]) => `(${text(type)}, ${text(kind)}, ${text(topicOfMail(type))})`)
        .join(', ')}) as k (type, kind, topic)),
    mail as (
      select n.*, count(*) over (partition by n.cause_id) + count(gone.key) over (partition by n.cause_id) as times,
        asked.type, asked.topic
      from notification as n join asked using (kind) left join archived as gone on gone.key = n.cause_id where n.created_at <= (select at from moment))
    select distinct m.id::text as subject, m.id, m.kind, m.cause_id, m.times, coalesce(m.order_id, m.user_id)::text as key, m.topic,
      ${unreadOf('m.topic')} as unread
    from mail as m join kept as k on k.topic = m.topic
    left join fact as f
      on f.event_id = m.cause_id and f.topic = m.topic and f.type = m.type and f.key = coalesce(m.order_id, m.user_id)::text
    where m.times > 1
      or (f.event_id is null and ${allSeen('m.topic')} and (k.since is null or ${sqlTimeOfId('m.cause_id')} > k.since))`,
  message: ({ id, kind, cause_id, times, ...found }) =>
    Number(times) > 1
      ? `notification ${id} (${kind}) is one of ${times} for event ${cause_id}`
      : `notification ${id} (${kind}) names event ${cause_id} as its cause, and there is no such event that asks for it${unlessUnread(found as Found)}`,
  commands: ({ topic, key, cause_id }) => [shop(`explain event ${cause_id}`), ...show(topic, key)],
}

const mailingRecipients: Check = {
  name: 'mailing-recipients',
  promise: 'a mailing has made one mail for each recipient it has counted',
  at: { notification: [] },
  looked: () =>
    'select (select count(*) from mailing) + (select count(*) from notification where mailing_id is not null)',
  sql: () => `
    select m.id::text as subject, m.id, m.recipients, gone.mails + count(n.id) as mails,
      gone.mails + count(distinct n.user_id) as users
    from mailing as m left join notification as n on n.mailing_id = m.id
    cross join lateral (
      select coalesce(sum(amount), 0)::bigint as mails from archived_sum
      where "table" = 'notification' and key = any(array[m.id || ' sent', m.id || ' failed', m.id || ' cancelled'])) as gone
    group by m.id, gone.mails
    having m.recipients <> gone.mails + count(n.id) or count(n.id) <> count(distinct n.user_id)`,
  message: ({ id, recipients, mails, users }) =>
    `mailing ${id} has counted ${recipients} recipients, and has ${mails} mails for ${users} users`,
  commands: () => [shop('status')],
}

const unwantedMailing: Check = {
  name: 'unwanted-mailing',
  promise: 'nobody who has opted out of mailings gets one',
  at: { notification: [] },
  looked: () => 'select count(*) from recipient where opted_out_at is not null',
  sql: () => `
    select n.id::text as subject, n.id, n.state, n.user_id, r.opted_out_at as since
    from recipient as r join notification as n on n.user_id = r.user_id
    where n.kind = 'mailing' and r.opted_out_at is not null
      and (n.state = 'queued' or (n.state <> 'cancelled' and coalesce(n.resent_at, n.created_at) > r.opted_out_at))`,
  message: ({ id, state, user_id, since }) =>
    `notification ${id} (${state}) is of a mailing, which user ${user_id} has wanted none of since ${since}`,
  commands: ({ user_id }) => [shop(`explain user ${user_id}`)],
}

const unannouncedMail: Check = {
  name: 'unannounced-mail',
  promise:
    'a mail that was sent, or failed, has exactly one event that says so (one more for each time it is sent again)',
  at: { notification: ['shop.notification.v1'] },
  looked: () => 'select count(*) from notification',
  sql: () => `
    with said as (
      select f.key, count(distinct f.sequence) as times from fact as f
      where f.topic = 'shop.notification.v1' group by 1 having count(distinct f.sequence) > 1)
    select n.id::text as subject, n.id, n.state, 0::bigint as times from notification as n
    where n.state in ('sent', 'failed') and n.sequence = 0
    union all
    select n.id::text, n.id, n.state, s.times from said as s join notification as n on n.id::text = s.key
    where s.times > 1 + n.resends`,
  message: ({ id, state, times }) =>
    times === 0n
      ? `notification ${id} is ${state}, and no event has said so`
      : `notification ${id} (${state}) has ${times} events that say what became of it`,
  commands: ({ id }) => show('shop.notification.v1', id),
}

/** Each cause has its mail, and each mail its cause. */
export const mailChecks: readonly Check[] = [
  missingMail,
  extraMail,
  mailingRecipients,
  unwantedMailing,
  unannouncedMail,
]
