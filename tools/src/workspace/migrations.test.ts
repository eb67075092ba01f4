import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { repository } from '@shopstream/testing'
import { breaksOf, migrationFiles } from './migrations.ts'

test.each([
  'drop table "order"',
  'alter table product drop column name',
  'DROP VIEW stock_level',
  'alter table product rename to article',
  'alter table product rename name to title',
  'alter table product\n  rename column name to title',
  'alter table product alter column price_amount type numeric',
  'alter table product alter column price_amount set data type numeric',
  'alter table product alter column name set not null',
  'alter table product alter name drop default',
  'alter table product add column weight integer not null',
  'alter table product add weight integer not null check (weight > 0)',
  'drop function parked_release(text[], text[])',
  'alter table product drop name',
  'alter table product drop if exists name',
  'alter table product add price numeric(10, 2) not null',
  "alter table product add kind text check (kind in ('a', 'b')) not null",
  'alter table product add constraint weighed check (weight is not null) not valid',
  'alter table product add unique (name)',
  'create unique index on product (name)',
  'alter type state rename value $$a$$ to $$b$$',
  'drop trigger released on parked_message',
  'alter table product set schema old',
  'truncate product',
  'revoke insert on product from "order"',
  'do $$ begin alter table product drop column name; end $$',
])('refused: %s', (sql) => {
  expect(breaksOf(`-- Says what it is for.\n${sql};`)).toHaveLength(1)
})

test.each([
  'create table shelf (id uuid primary key, name text not null)',
  'alter table product add column weight integer',
  'alter table product add column weight integer not null default 0',
  'alter table product add column weight integer default 0 not null',
  "alter table product add column search tsvector not null generated always as (to_tsvector('simple', name)) stored",
  'alter table product drop constraint weighed',
  'create index on product (name); drop index product_name',
  '-- drop table product\nselect 1',
  'create function f() returns void language plpgsql as $$ begin drop table x; end $$',
  'comment on table product is $x$drop table$x$',
])('taken: %s', (sql) => {
  expect(breaksOf(`${sql};`)).toEqual([])
})

test('one that says why it may is taken', () => {
  expect(
    breaksOf(
      '-- Breaks the previous version: nobody has read this column for two versions.\nalter table a drop column b;',
    ),
  ).toEqual([])
  expect(breaksOf('-- breaks the previous version:\nalter table a drop column b;')).toHaveLength(1)
})

test('no migration of this workspace breaks the previous version', () => {
  const files = migrationFiles(repository)
  expect(files.length).toBeGreaterThan(20)
  const broken = files.filter((file) => breaksOf(readFileSync(join(repository, file), 'utf8')).length > 0)
  expect(broken).toEqual([])
})
