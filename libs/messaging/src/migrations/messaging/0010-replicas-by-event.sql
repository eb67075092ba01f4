-- Which events of compacted topics the service's replicas hold, as far as they ever were in their topics: from then on it may
-- answer from them. `replicas_filled` said so for the database as a whole; a version that began to keep one more served an
-- empty one. The version before this one goes on reading and writing that table.
create table replica_filled (
  topic text not null,
  event text not null,
  at timestamptz not null default now(),
  primary key (topic, event)
);
