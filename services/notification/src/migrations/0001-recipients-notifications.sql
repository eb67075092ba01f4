-- Replica of shop.user.v1. A row without an address holds the place of a user whose event has not come yet, so that a
-- cause and its recipient that arrive at the same moment meet at this row's lock.
create table recipient (
  user_id      uuid primary key,
  email        text,
  display_name text,
  erased       boolean not null default false,
  sequence     bigint not null default 0
);

create table notification (
  id              uuid primary key,
  user_id         uuid not null,
  kind            text not null check (kind in ('welcome', 'confirmed', 'rejected', 'shipped', 'cancelled')),
  cause_id        uuid not null constraint notification_cause_unique unique, -- one mail per cause
  order_id        uuid,
  facts           jsonb not null,          -- what the template's placeholders stand for, as text
  subject         text not null,
  traceparent     text,                    -- of the cause, carried on by NotificationSent
  state           text not null check (state in ('awaiting-recipient', 'queued', 'sent', 'failed', 'cancelled')),
  recipient_email text,                    -- the address it was last handed to the SMTP server for
  attempts        integer not null default 0, -- claims so far; the number of a claim is also what fences an old one off
  problems        integer not null default 0, -- answers of the SMTP server that were about this mail
  next_attempt_at timestamptz not null default now(), -- while a claim is open: the end of its lease
  last_error      text,
  sequence        bigint not null default 0,
  created_at      timestamptz not null default now(),
  sent_at         timestamptz
);
create index notification_due on notification (next_attempt_at) where state = 'queued';
create index notification_open_of_user on notification (user_id) where state in ('awaiting-recipient', 'queued');
create index notification_of_user on notification (user_id, id);
