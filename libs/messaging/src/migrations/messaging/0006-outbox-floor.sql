-- Where the relay begins to read. Rows that it has deleted stay in table and index for as long as somebody holds a snapshot
-- (a dump, a replica's feedback): with 300,000 of them each look from the head took 230-370 ms.
create table outbox_floor (
  id bigint not null, -- no row up to this id is waiting, or will ever come, but those left behind
  left_behind bigint[] not null, -- at most 1,000
  one boolean primary key default true check (one) -- there is one row
);
insert into outbox_floor (id, left_behind) values (0, '{}');
