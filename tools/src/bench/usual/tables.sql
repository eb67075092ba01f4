-- The tables of the services as they were when the benchmark was written, without what they need for other work.
create table outbox (
  id bigint generated always as identity primary key,
  topic text not null, key text not null, event_id uuid not null, type text not null, data jsonb not null,
  created_at timestamptz not null default now()
);
create table inbox (event_id uuid primary key, received_at timestamptz not null default now());
create table idempotency_key (
  customer text not null, key text not null, answer jsonb, created_at timestamptz not null default now(),
  primary key (customer, key)
);
create table product (sku text primary key, name text not null, price_amount bigint not null, retired boolean not null);
create table shop_order (
  id uuid primary key, customer text not null,
  status text not null check (status in ('pending', 'confirmed', 'rejected', 'shipped', 'delivered', 'cancelled')),
  lines jsonb not null, total_amount bigint not null, shipping_address jsonb not null, history jsonb not null,
  reservation_deadline timestamptz not null, created_at timestamptz not null, updated_at timestamptz not null
);
create index order_of_customer on shop_order (customer, id desc);
create index order_status on shop_order (status, id desc);
create index order_deadline on shop_order (reservation_deadline) where status = 'pending';
create table stock (
  sku text primary key references product, on_hand integer not null, reserved integer not null default 0,
  check (reserved >= 0), check (on_hand >= reserved)
);
create table reservation (
  order_id uuid primary key, state text not null check (state in ('reserved', 'rejected', 'released', 'sold')),
  lines jsonb not null, updated_at timestamptz not null default now()
);
create table recipient (customer text primary key, email text not null);
create table notification (
  id uuid primary key default gen_random_uuid(), customer text not null, kind text not null, cause_id uuid not null unique,
  order_id uuid not null, facts jsonb not null, subject text not null,
  state text not null check (state in ('queued', 'sent', 'failed')), attempts integer not null default 0,
  next_attempt_at timestamptz not null default now(), created_at timestamptz not null default now(), sent_at timestamptz
);
create index notification_due on notification (next_attempt_at) where state = 'queued';
create index notification_of_customer on notification (customer, id);
