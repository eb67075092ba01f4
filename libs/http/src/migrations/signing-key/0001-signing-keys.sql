-- This service's replica of shop.signing-key.v1: public keys that access tokens are verified with.
create table signing_key (
  key_id text primary key,
  -- A JWK (RFC 7517), public part only; null when a key's retirement came first.
  public_key jsonb,
  active_from timestamptz,
  expires_at timestamptz,
  retired boolean not null default false,
  -- Sequence of the last event applied; lower ones are ignored.
  sequence bigint not null
);
