-- The replica of the catalogue: what can be ordered, and for how much.
create table product (
  sku text primary key,
  price_amount bigint not null,
  price_currency text not null,
  retired boolean not null,
  sequence bigint not null -- of the last event about it
);

create table "order" (
  id uuid primary key,
  user_id uuid not null,
  status text not null check (status in ('pending', 'confirmed', 'rejected', 'shipped', 'delivered', 'cancelled')),
  lines jsonb not null, -- [{sku, quantity, unitPrice: {amount, currency}}], amounts as text
  total_amount bigint not null,
  total_currency text not null,
  shipping_address jsonb not null,
  reason text, -- why it was rejected or cancelled
  shipment jsonb, -- {carrier, trackingNumber}
  history jsonb not null, -- [{status, at}]
  reservation_deadline timestamptz not null,
  sequence bigint not null, -- of the last event about it
  created_at timestamptz not null,
  updated_at timestamptz not null
);
create index order_of_user on "order" (user_id, id desc);
create index order_status on "order" (status, id desc);
create index order_deadline on "order" (reservation_deadline) where status = 'pending';
