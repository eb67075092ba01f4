-- A parked message is known by its place. When its topic was made anew, another message stands there: the parked one goes on
-- under its negated id, as no offset is negative, and keeps here where it was. The version before this one can read both.
alter table parked_message add column former_offset bigint;
