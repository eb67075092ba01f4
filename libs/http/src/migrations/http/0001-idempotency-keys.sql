-- The answers to requests with an Idempotency-Key, written in the transaction of their effect. Kept for 24 hours.
create table idempotency_key (
  user_id uuid not null,
  key text not null,
  -- SHA-256 over method, path and body, so that the key cannot stand for another request.
  request_hash bytea not null,
  -- The answer; null only inside the transaction that makes it.
  status int,
  headers jsonb,
  body jsonb,
  created_at timestamptz not null default now(),
  primary key (user_id, key)
);
create index idempotency_key_created_at on idempotency_key (created_at);
