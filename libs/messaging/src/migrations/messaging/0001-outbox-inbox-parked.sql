-- Events decided but not yet acknowledged by the broker. The relay publishes in id order and deletes what was acknowledged.
create table outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  partition integer not null,
  key text,
  value bytea,
  headers jsonb not null,
  created_at timestamptz not null default now(),
  refused text -- why the broker refuses this row for good; it and later rows of its key wait for a person
);
create index outbox_refused on outbox (topic, key) where refused is not null;

-- One row per event that took effect. Event ids are UUIDv7, ordered by time, so whole ranges can be dropped.
create table inbox (
  event_id uuid primary key,
  topic text not null,
  partition integer not null,
  "offset" bigint not null,
  received_at timestamptz not null default now()
) partition by range (event_id);
create table inbox_other partition of inbox default;
create index inbox_other_received on inbox_other (received_at);

create function uuid_floor(at timestamptz) returns uuid language sql immutable as $$
  select (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Adds the partition of one week, taking over rows of that range which went to the default partition.
create function inbox_add_week(week date) returns boolean language plpgsql as $$
declare
  name text := format('inbox_%s', to_char(week, 'YYYYMMDD'));
  low uuid := uuid_floor(week::timestamp at time zone 'UTC');
  high uuid := uuid_floor((week + 7)::timestamp at time zone 'UTC');
begin
  perform pg_advisory_xact_lock(hashtext('inbox-weeks'));
  if to_regclass(name) is not null then
    return false;
  end if;
  execute format('create table %I (like inbox including all)', name);
  execute format(
    'with moved as (delete from inbox_other where event_id >= %L and event_id < %L returning *)
     insert into %I select * from moved', low, high, name);
  execute format('alter table inbox attach partition %I for values from (%L) to (%L)', name, low, high);
  return true;
end $$;

-- Drops whole weeks that ended before a date. Returns how many.
create function inbox_drop_before(oldest date) returns integer language plpgsql as $$
declare
  name text;
  dropped integer := 0;
begin
  for name in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'inbox'::regclass and c.relname ~ '^inbox_\d{8}$'
      and to_date(right(c.relname, 8), 'YYYYMMDD') + 7 <= oldest
  loop
    execute format('drop table %I', name);
    dropped := dropped + 1;
  end loop;
  return dropped;
end $$;

-- The retry queue and the garbage queue in one. Per topic and key the rows are handled in id order.
create table parked_message (
  id bigint generated always as identity primary key,
  event_id uuid, -- null where the message does not say
  topic text not null,
  partition integer not null,
  "offset" bigint not null,
  key text, -- null: of no key, blocks nobody
  bytes bytea,
  headers jsonb not null,
  state text not null check (state in ('waiting', 'dead')),
  blocks boolean not null default true, -- later messages of the key wait behind this row
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  error text,
  parked_at timestamptz not null default now(),
  unique (topic, partition, "offset")
);
create index parked_message_key on parked_message (topic, key, id) where blocks;
create index parked_message_due on parked_message (next_attempt_at) where state = 'waiting';

-- Has a row once the replicas have held everything that their topics held: from then on the service may answer from them.
create table replicas_filled (at timestamptz not null default now());
