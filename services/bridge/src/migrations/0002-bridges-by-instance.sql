-- How each instance of the service sees the other side of each bridge; `bridge` says what follows from those that run.
create table bridge_instance (
  bridge text not null,
  instance uuid not null,
  away_since timestamptz,
  away_reason text,
  seen_at timestamptz not null default now(),
  primary key (bridge, instance)
);
