import type { NewEvent } from '@shopstream/messaging'
import { mailKinds } from '../operations/verify/checks.ts'

/** What has become of an order, and the events of it and of its reservation. */
export interface Story {
  status: string
  order: readonly NewEvent['type'][]
  /** Of its reservation; undefined where inventory has not heard of it. */
  state?: string
  reservation: readonly NewEvent['type'][]
  /** Of each piece. */
  moves: { onHand: number; reserved: number }
}

/** So many of twenty orders each. */
const stories: readonly (Story & { of20: number })[] = [
  {
    of20: 12,
    status: 'delivered',
    order: ['OrderPlaced', 'OrderConfirmed', 'OrderShipped', 'OrderDelivered'],
    state: 'sold',
    reservation: ['StockReserved', 'StockSold'],
    moves: { onHand: -1, reserved: 0 },
  },
  {
    of20: 4,
    status: 'confirmed',
    order: ['OrderPlaced', 'OrderConfirmed'],
    state: 'reserved',
    reservation: ['StockReserved'],
    moves: { onHand: 0, reserved: 1 },
  },
  {
    of20: 3,
    status: 'cancelled',
    order: ['OrderPlaced', 'OrderConfirmed', 'OrderCancelled'],
    state: 'released',
    reservation: ['StockReserved', 'StockReleased'],
    moves: { onHand: 0, reserved: 0 },
  },
  {
    of20: 1,
    status: 'rejected',
    order: ['OrderPlaced', 'OrderRejected'],
    state: 'rejected',
    reservation: ['StockRejected'],
    moves: { onHand: 0, reserved: 0 },
  },
]
export const storyOf = stories.flatMap((story) => Array<Story>(story.of20).fill(story))

/** It was placed, and nobody has heard of it yet. */
export const waitingStory: Story = {
  status: 'pending',
  order: ['OrderPlaced'],
  reservation: [],
  moves: { onHand: 0, reserved: 0 },
}

export const mails: Record<string, string> = mailKinds
