-- The bridges of the table that was read last, and how the other side of each is.
create table bridge (
  name text primary key,
  direction text not null check (direction in ('send', 'receive')),
  kind text not null,
  events text[] not null,
  away_since timestamptz,
  away_reason text,
  seen_at timestamptz not null default now()
);

-- Ids of messages that came in, for as long as a source may bring one again.
create table received (
  source text not null,
  id text not null,
  received_at timestamptz not null default now(),
  primary key (source, id)
);
create index on received (received_at);

-- The last sequence of each key that came in.
create table received_key (
  topic text not null,
  key text not null,
  sequence bigint not null,
  born_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  primary key (topic, key)
);
