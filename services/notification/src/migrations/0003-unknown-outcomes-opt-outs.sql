-- How often a mail was sent without the SMTP server's ever saying whether it has it. Counted apart from refusals: each may
-- be one more mail in somebody's inbox.
alter table notification add column unknowns integer not null default 0;
