-- The event that a message became, which its sender knows by an id of their own: behind the first blank of `id`, as a source has none.
alter table received add column event_id uuid;
create index received_own_id on received (substr(id, strpos(id, ' ') + 1));

-- The bridges by which what one does not hand on came in: it is from the same broker.
alter table bridge add column leaves_out text[] not null default '{}';
