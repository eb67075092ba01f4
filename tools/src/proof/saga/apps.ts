/** The two services of the saga as they run. */
export { buildInventory } from '../../../../services/inventory/src/app.ts'
export { buildOrder } from '../../../../services/order/src/app.ts'
export { cancelOverdue } from '../../../../services/order/src/reserving/sweep.ts'
