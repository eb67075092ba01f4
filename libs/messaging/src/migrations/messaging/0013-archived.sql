-- What `npm run shop -- archive` has moved out into files (docs/adr/0018), noted in the transaction that deletes it. A batch
-- in a file that has no row here was never deleted: its rows are still here, or count in another batch.
create table archived_batch (
  id bigint generated always as identity primary key,
  file text not null,
  "table" text not null,
  rows integer not null,
  archived_at timestamptz not null default now()
);

-- By what it may be asked for again: ids, and what caused it. All are UUIDs, which never mean two things.
create table archived (
  key uuid primary key,
  sequence bigint, -- of the last event about it
  batch_id bigint not null references archived_batch
);

-- What sums over a table lack since.
create table archived_sum (
  "table" text not null,
  key text not null,
  amount bigint not null,
  primary key ("table", key)
);
