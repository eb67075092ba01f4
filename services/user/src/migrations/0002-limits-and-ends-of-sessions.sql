-- Who has staff's role by the settings of this service, and loses it by them: whoever has it now was made so.
alter table account add column seeded boolean not null default false;
update account set seeded = true where 'staff' = any(roles);

-- Addresses in the form of before, which each start looks for (accounts/normalise-emails.ts).
create index account_email_former on account (id)
where octet_length(split_part(email, '@', 2)) > char_length(split_part(email, '@', 2));

-- The network that a login came from: somebody who has logged in from there is not kept waiting for a stranger's guesses.
alter table session add column network text;

-- Another password, or a role less, ends every session, whoever brings it about: the settings, a restore, or SQL by hand.
create function end_sessions() returns trigger language plpgsql as $$
begin
  update session set revoked_at = now() where user_id = new.id and revoked_at is null;
  return null;
end $$;
create trigger account_ends_sessions after update of password_hash, roles on account for each row
when (old.password_hash <> new.password_hash or not old.roles <@ new.roles)
execute function end_sessions();

-- What was used of a limit, as one time (GCRA). Not logged: an attempt costs no write to the disk, and a crash forgets.
create unlogged table allowance (
  key      bytea primary key,     -- SHA-256 of the limit and of whom it is for: addresses are not kept
  whole_at timestamptz not null   -- when everything that was used will have come back
);
