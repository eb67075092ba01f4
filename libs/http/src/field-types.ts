import { type TObject, Type } from 'typebox'

/** A stock keeping unit. */
export const Sku = Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' })

/** An amount of money on the wire. */
export const Price = Type.Object({
  amount: Type.Integer({ minimum: 0, maximum: 1_000_000_000, description: 'Minor units, such as cents.' }),
  currency: Type.String({ pattern: '^[A-Z]{3}$', description: 'ISO 4217.' }),
})

/** A sum of prices, which may be larger than any one of them. */
export const Total = Type.Object({ amount: Type.Integer({ minimum: 0 }), currency: Price.properties.currency })

/** One line of text, of any script: something is to be seen, and nothing hides or turns around (text.ts). */
export const line = (maxLength: number) => Type.String({ format: 'line', minLength: 1, maxLength })

/** The same of several lines. */
export const lines = (maxLength: number) => Type.String({ format: 'lines', minLength: 1, maxLength })

/** Text of several lines that may be empty. */
export const printable = (maxLength: number) => Type.String({ format: 'printable', maxLength })

/** A body that may be left out. */
export const optionalBody = <T extends TObject>(body: T) => Type.Union([body, Type.Null()])

interface Money {
  amount: bigint
  currency: string
}

/** Money as JSON has it. The amounts of one order stay far below 2^53. */
export const toPrice = ({ amount, currency }: Money) => ({ amount: Number(amount), currency })
/** Money as code has it. */
export const toMoney = ({ amount, currency }: { amount: number; currency: string }): Money => ({
  amount: BigInt(amount),
  currency,
})
