-- What may be tried and waits for no schema. Of messages whose schema nobody has told a stranger can write any number, and
-- each look for work would walk over those that are due.
create index parked_message_due_readable on parked_message (next_attempt_at)
  where state = 'waiting' and next_attempt_at is not null and waits_for_schema is null;
