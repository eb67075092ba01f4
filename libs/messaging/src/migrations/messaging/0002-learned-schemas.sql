-- The schemas of shop.schema.v1, also those that are built in: after a rollback they may not be.
create table learned_schema (
  schema_id integer primary key,
  subject text not null,
  schema text not null,
  learned_at timestamptz not null default now()
);
