import { expect, test } from '@jest/globals'
import type { Acl } from '@shopstream/messaging/operations'
import { putAcls, type Shop, wantedAcls } from './acls.ts'

const right = (resourceName: string, more: Partial<Acl> = {}): Acl => ({
  principal: 'User:order',
  host: '*',
  resourceType: 'TOPIC',
  resourceName,
  patternType: 'LITERAL',
  operation: 'WRITE',
  permissionType: 'ALLOW',
  ...more,
})

/** What `--prune` takes of these rights, and what is said of it, at a cluster where all that is wanted is there already. */
async function pruned(shop: Shop, besides: readonly Acl[]) {
  const wanted = await wantedAcls(shop)
  const taken: Acl[] = []
  const admin = {
    list: async () => [...wanted, ...besides],
    add: async (acls: readonly Acl[]) => expect(acls).toEqual([]),
    remove: async (acls: readonly Acl[]) => void taken.push(...acls),
    close: async () => {},
  }
  const lines = await putAcls(admin, shop, true)
  return { taken, said: lines.join('\n') }
}

test('with a prefix, rights on names that do not begin with it are of other shops, and stay', async () => {
  const old = right('a.shop.old.v1')
  const others = ['b.shop.order.v1', 'shop.order.v1', 'analytics'].map((name) => right(name))
  const wide = [right('*'), right('a', { patternType: 'PREFIXED' })]
  const { taken, said } = await pruned({ topicPrefix: 'a.', userPrefix: '' }, [old, ...others, ...wide])
  expect(taken).toEqual([old])
  expect(said).toContain('removed: User:order ALLOW TOPIC a.shop.old.v1: WRITE')
  expect(said).toContain('of more than this shop, and left: User:order ALLOW TOPIC *: WRITE')
  expect(said).toContain('of more than this shop, and left: User:order ALLOW PREFIXED TOPIC a: WRITE')
})

test('without a prefix, rights on names of the shop behind some prefix stay', async () => {
  const own = [right('shop.old.v1'), right('*'), right('shop.', { patternType: 'PREFIXED' })]
  const others = [
    right('b.shop.order.v1'),
    right('b.', { patternType: 'PREFIXED' }),
    right('b.order', { resourceType: 'GROUP' }),
    right('b.order-relay', { resourceType: 'TRANSACTIONAL_ID' }),
  ]
  const { taken, said } = await pruned({ topicPrefix: '', userPrefix: '' }, [...own, ...others])
  expect(taken).toEqual(own)
  expect(said).toContain('of other shops, and left: 4 rights of these users')
})

test('what an administrator has forbidden stays forbidden, and is told', async () => {
  const denied = right('shop.user.v1', { permissionType: 'DENY' })
  const { taken, said } = await pruned({ topicPrefix: '', userPrefix: '' }, [denied])
  expect(taken).toEqual([])
  expect(said).toContain('forbidden, and left: User:order DENY TOPIC shop.user.v1: WRITE')
})

test('users have the prefix that they are named with; those without it are others', async () => {
  const shop = { topicPrefix: '', userPrefix: 'shop1-' }
  const own = right('shop.old.v1', { principal: 'User:shop1-order' })
  const { taken, said } = await pruned(shop, [own, right('shop.old.v1'), right('shop.order.v1')])
  expect(taken).toEqual([own])
  expect(said).toContain('of others, and left: User:order ALLOW TOPIC shop.order.v1: WRITE')
  const users = new Set((await wantedAcls(shop)).map(({ principal }) => principal))
  expect([...users].every((user) => user.startsWith('User:shop1-'))).toBe(true)
})
