-- The headers of a new event. Consumers take no event whose id is older than their inbox remembers, so one that a process has
-- made by a clock which is more than an hour behind that of its database gets its time from the database. A clock that is
-- ahead does no harm: what is of a time to come is remembered long enough.
create function by_the_later_clock(headers jsonb) returns jsonb language sql volatile as $$
  select case when made < now_ms - 3600000
    then headers || jsonb_build_object(
      'ce_id', substr(now_hex, 1, 8) || '-' || substr(now_hex, 9) || substr(headers->>'ce_id', 14),
      'ce_time', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
    else headers end
  from (select clock_timestamp() as at) as clock
  cross join lateral (select floor(extract(epoch from at) * 1000)::bigint as now_ms) as milliseconds
  cross join lateral (select lpad(to_hex(now_ms), 12, '0') as now_hex) as hex
  cross join lateral (
    select ('x' || replace(left(headers->>'ce_id', 13), '-', ''))::bit(48)::bigint as made) as id
$$;
