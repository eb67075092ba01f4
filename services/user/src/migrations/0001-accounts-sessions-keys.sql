-- An account is the aggregate "user": sequence counts its events on shop.user.v1.
create table account (
  id            uuid primary key,
  email         text not null constraint account_email_unique unique, -- normalised: trimmed, NFKC, lower case
  display_name  text not null,
  password_hash text not null,                                        -- argon2id, PHC string
  roles         text[] not null,
  sequence      bigint not null,
  created_at    timestamptz not null
);

-- A session is a family of refresh tokens: each refresh replaces the family's token.
create table session (
  id         uuid primary key, -- the sid claim of its access tokens
  user_id    uuid not null references account on delete cascade,
  created_at timestamptz not null,
  expires_at timestamptz not null, -- when its latest refresh token expires
  revoked_at timestamptz
);
create index session_user_id on session (user_id);
create index session_expires_at on session (expires_at);

-- Rotated tokens stay until they expire, so that using one again can be told from inventing one.
create table refresh_token (
  hash       bytea primary key, -- SHA-256 of the token; the token itself is 256 random bits and is not kept
  session_id uuid not null references session on delete cascade,
  issued_at  timestamptz not null,
  expires_at timestamptz not null,
  rotated_at timestamptz
);
create index refresh_token_session_id on refresh_token (session_id);
create index refresh_token_expires_at on refresh_token (expires_at);

-- The key pairs that sign access tokens; other services know the public halves from shop.signing-key.v1.
create table signing_key_pair (
  id           text primary key,
  public_jwk   text not null,
  sealed_jwk   bytea not null, -- the private JWK under AES-256-GCM, see signing-keys/sealing.ts
  published_at timestamptz not null,
  active_from  timestamptz not null,
  expires_at   timestamptz not null,
  retired_at   timestamptz,
  sequence     bigint not null
);
