-- What a consumer has met in a topic and cannot read: its partition stands still until somebody decides that it may be
-- stepped over. Kept for ever, with its bytes and with who decided it and why.
create table unreadable_batch (
  id bigint generated always as identity primary key,
  topic text not null,
  partition integer not null,
  first_offset bigint not null,
  last_offset bigint not null,
  reason text not null, -- why it cannot be read
  bytes bytea not null, -- as they came, packed
  digest bytea not null, -- of the bytes: a topic that was made anew has something else at the same place
  met_at timestamptz not null default now(),
  last_met_at timestamptz not null default now(),
  stepped_over_at timestamptz,
  actor text,
  stepped_over_for text, -- the reason that was given
  unique (topic, partition, last_offset, digest, first_offset),
  constraint unreadable_batch_decided check (
    (stepped_over_at is null) = (actor is null) and (stepped_over_at is null) = (stepped_over_for is null))
);
