-- Parked messages stay as history once they have ended, with every attempt and with who decided what about them.
-- The version before this one goes on working beside it: it deletes what it handles, and sets times for followers.
alter table parked_message
  drop constraint parked_message_state_check,
  add constraint parked_message_state_check check (state in ('waiting', 'dead', 'handled', 'discarded')),
  add column ended_at timestamptz, -- when it was handled or discarded; after the inbox window the row is deleted
  add column redriven_at timestamptz, -- when it was last made to wait again after having been dead
  add column waits_for_schema bigint, -- the id of its writer's schema, where the last attempt lacked that
  alter column next_attempt_at drop not null, -- null: not by itself, it is dead or behind an earlier one of its key
  add constraint parked_message_ended check ((ended_at is not null) = (state in ('handled', 'discarded'))),
  add constraint parked_message_blocks check (not (blocks and ended_at is not null));

-- Every attempt that failed, those before a redrive too. Further attempts for the same missing schema are not listed.
create table parked_attempt (
  parked_id bigint not null references parked_message on delete cascade,
  number integer not null,
  at timestamptz not null default now(),
  error text not null, -- the message and the first lines of the stack
  primary key (parked_id, number)
);

-- What people did to parked messages. Kept for ever; `details` tells which message it was once its row is gone.
create table parked_action (
  id bigint generated always as identity primary key,
  parked_id bigint references parked_message on delete set null,
  action text not null check (action in ('retry', 'redrive', 'discard')),
  actor text not null,
  reason text,
  at timestamptz not null default now(),
  details jsonb not null
);
create index parked_action_parked on parked_action (parked_id);

insert into parked_attempt (parked_id, number, at, error)
select id, attempts, parked_at, error from parked_message where attempts > 0 and error is not null;

update parked_message set waits_for_schema = ('x' || encode(substring(bytes from 2 for 4), 'hex'))::bit(32)::bigint
where state = 'waiting' and error like 'DecodeError%' and length(bytes) >= 5;

update parked_message as one set next_attempt_at = null
where state = 'dead' or exists (
  select 1 from parked_message as earlier
  where earlier.blocks and earlier.topic = one.topic and earlier.key = one.key and earlier.id < one.id);

-- Holds nothing but what may be tried: with the followers of dead heads in it, each look for work walked over all of them.
drop index parked_message_due;
create index parked_message_due on parked_message (next_attempt_at) where state = 'waiting' and next_attempt_at is not null;
create index parked_message_live on parked_message (parked_at) where ended_at is null;
create index parked_message_ended on parked_message (ended_at) where ended_at is not null;
create index parked_message_schema on parked_message (waits_for_schema) where waits_for_schema is not null;

-- Whoever parks a message behind another, and whoever ends that other one, must not miss each other: both take the key.
create function parked_lock(topics text[], keys text[]) returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(place) from (
    select distinct hashtextextended(topic || chr(10) || key, 3) as place
    from unnest(topics, keys) as one (topic, key) where key is not null
    order by place) as places;
end $$;

-- Makes the first message of each key due, if it waits.
create function parked_release(topics text[], keys text[]) returns void language plpgsql as $$
begin
  perform parked_lock(topics, keys);
  update parked_message set next_attempt_at = now()
  where state = 'waiting' and next_attempt_at is null and id in (
    select first.id
    from (select distinct topic, key from unnest(topics, keys) as one (topic, key)) as freed
    cross join lateral (
      select id from parked_message as follower
      where follower.blocks and follower.topic = freed.topic and follower.key = freed.key
      order by id limit 1) as first);
end $$;

-- Triggers, so that followers go on whoever lets go of their key: the retrier of any version, a discard, a person.
create function parked_release_updated() returns trigger language plpgsql as $$
begin
  perform parked_release(array_agg(before.topic), array_agg(before.key))
  from before join after using (id) where before.blocks and not after.blocks having count(*) > 0;
  return null;
end $$;
create trigger parked_release_updated after update on parked_message
  referencing old table as before new table as after for each statement execute function parked_release_updated();

create function parked_release_deleted() returns trigger language plpgsql as $$
begin
  perform parked_release(array_agg(topic), array_agg(key)) from before where blocks having count(*) > 0;
  return null;
end $$;
create trigger parked_release_deleted after delete on parked_message
  referencing old table as before for each statement execute function parked_release_deleted();
