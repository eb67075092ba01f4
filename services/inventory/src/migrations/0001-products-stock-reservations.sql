create table product (
  sku text primary key,
  name text not null,
  description text not null,
  price_amount bigint not null check (price_amount >= 0),
  price_currency text not null,
  retired boolean not null default false,
  version integer not null,
  sequence bigint not null, -- of the last event about it
  updated_at timestamptz not null default now()
);

-- One row per sku, made with the product. available = on_hand - reserved, and never below zero.
create table stock (
  sku text primary key references product,
  on_hand integer not null default 0,
  reserved integer not null default 0,
  sequence bigint not null default 0, -- of the last StockLevelChanged
  check (reserved >= 0),
  check (on_hand >= reserved)
);

create table stock_adjustment (
  id uuid primary key,
  sku text not null references product,
  delta integer not null,
  reason text not null,
  made_by uuid not null,
  made_at timestamptz not null default now()
);
create index stock_adjustment_sku on stock_adjustment (sku, made_at);

create table reservation (
  order_id uuid primary key,
  state text not null check (state in ('reserved', 'rejected', 'released', 'sold')),
  lines jsonb not null, -- [{sku, quantity}]
  sequence bigint not null, -- of the last event about it
  updated_at timestamptz not null default now()
);
