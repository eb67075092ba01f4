-- A text of staff to all known users. Its notifications are made in batches in the background, in the order of user
-- ids: `filled_to` is the last one that has been looked at, moved in the transaction that makes the batch.
create table mailing (
  id          uuid primary key,
  subject     text not null,
  text        text not null,
  created_by  uuid not null,
  traceparent text,
  filled_to   uuid,
  filled_at   timestamptz,               -- since when nobody is left
  recipients  integer not null default 0, -- notifications made so far
  created_at  timestamptz not null default now()
);
create index mailing_open on mailing (id) where filled_at is null;

alter table notification
  add column lane text not null default 'urgent' check (lane in ('urgent', 'bulk')),
  add column mailing_id uuid references mailing,
  add column resends integer not null default 0, -- how often staff had it sent again: each has a Message-ID of its own
  add column resent_at timestamptz,
  drop constraint notification_kind_check,
  add constraint notification_kind_check
    check (kind in ('welcome', 'confirmed', 'rejected', 'shipped', 'cancelled', 'mailing'));

-- An index per lane: finding the next urgent mail must not read past 50,000 of a mailing.
create index notification_due_urgent on notification (next_attempt_at, id) where state = 'queued' and lane = 'urgent';
create index notification_due_bulk on notification (next_attempt_at, id) where state = 'queued' and lane = 'bulk';
drop index notification_due;
create index notification_of_mailing on notification (mailing_id, state) where mailing_id is not null;

-- Who had which mail sent again, and what had become of it before.
create table resend (
  notification_id uuid not null references notification,
  number          integer not null,      -- notification.resends since then
  former_state    text not null check (former_state in ('sent', 'failed')),
  requested_by    uuid not null,
  requested_at    timestamptz not null default now(),
  primary key (notification_id, number)
);
