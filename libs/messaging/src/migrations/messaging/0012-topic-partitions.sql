-- The number of partitions that this service's events are placed by, where their topic has been grown (docs/adr/0024). A
-- topic without a row has as many as it was made with.
create table topic_partitions (
  topic text primary key,
  partitions integer not null check (partitions > 0),
  former integer[] not null, -- what it was before, the first number first
  growing_to integer check (growing_to > partitions), -- while it is set, the relay publishes nothing of the topic
  held_at timestamptz, -- since when no relay does
  constraint topic_partitions_held check (held_at is null or growing_to is not null)
);

-- `partitionOf` of libs/events: murmur2 as Kafka's Java client has it, in 32 bits without a sign.
create function partition_of(key text, partitions integer) returns integer language plpgsql immutable strict as $$
declare
  bytes constant bytea := convert_to(key, 'UTF8');
  rest constant integer := octet_length(bytes) % 4;
  whole constant integer := octet_length(bytes) - rest;
  multiplier constant bigint := 1540483477;
  mask constant bigint := 4294967295;
  hash bigint := 2538058380 # octet_length(bytes)::bigint;
  word bigint;
begin
  for i in 0 .. whole / 4 - 1 loop
    word := 0;
    for j in reverse 3 .. 0 loop
      word := word << 8 | get_byte(bytes, 4 * i + j);
    end loop;
    word := (word * multiplier) & mask;
    word := word # (word >> 24);
    hash := ((hash * multiplier) & mask) # ((word * multiplier) & mask);
  end loop;
  if rest > 0 then
    word := 0;
    for j in reverse rest - 1 .. 0 loop
      word := word << 8 | get_byte(bytes, whole + j);
    end loop;
    hash := ((hash # word) * multiplier) & mask;
  end if;
  hash := hash # (hash >> 13);
  hash := (hash * multiplier) & mask;
  hash := hash # (hash >> 15);
  return ((hash & 2147483647) % partitions)::integer;
end $$;
