-- How often a mail was sent without the SMTP server's ever saying whether it has it. Counted apart from refusals: each may
-- be one more mail in somebody's inbox.
alter table notification add column unknowns integer not null default 0;

-- Since when somebody wants no mailings. Here, because the lock of this row decides who gets which.
alter table recipient add column opted_out_at timestamptz;

-- What the links in mailings are signed with: one for all instances, as long as the database lives. Two random UUIDs have
-- 244 random bits.
create table opt_out_key (
  key bytea not null
);
insert into opt_out_key values (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
