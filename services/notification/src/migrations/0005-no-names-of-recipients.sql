-- No mail holds a name any more, so none is kept. The column stays for the version before, which has text in it when it
-- sends a mail: an empty one, whatever that version still writes. A later migration drops column and trigger.
alter table recipient alter column display_name set default '';

create function forget_display_name() returns trigger language plpgsql as $$
begin
  new.display_name := '';
  return new;
end $$;

create trigger forget_display_name before insert or update of display_name on recipient
  for each row when (new.display_name is distinct from '') execute function forget_display_name();

update recipient set display_name = '' where display_name is distinct from '';
