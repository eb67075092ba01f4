import { createCipheriv, createDecipheriv, randomBytes, type ScryptOptions, scrypt } from 'node:crypto'
import { promisify } from 'node:util'

const derive = promisify<string, Buffer, number, ScryptOptions, Buffer>(scrypt)

/** 16 MiB and about 30 ms for each key: a secret that a person made up is worth slowing guesses down. */
const cost = { N: 16_384, r: 8, p: 1 }

/** Layout: version (1 byte), salt (16), nonce (12), tag (16), ciphertext. */
const version = 1
const sizes = { salt: 16, nonce: 12, tag: 16 }
const headerSize = 1 + sizes.salt + sizes.nonce + sizes.tag

/** A sealed key that the given secret does not open. */
export class SealError extends Error {
  override name = 'SealError'
}

/** Encrypts and authenticates `text` under a key derived from `secret` (scrypt, AES-256-GCM), bound to `id`. */
export async function seal(secret: string, id: string, text: string): Promise<Buffer> {
  const salt = randomBytes(sizes.salt)
  const nonce = randomBytes(sizes.nonce)
  const cipher = createCipheriv('aes-256-gcm', await derive(secret, salt, 32, cost), nonce).setAAD(Buffer.from(id))
  const ciphertext = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([Buffer.of(version), salt, nonce, cipher.getAuthTag(), ciphertext])
}

/** Opens what {@link seal} made. Throws {@link SealError} for another secret, another id or changed bytes. */
export async function open(secret: string, id: string, sealed: Buffer): Promise<string> {
  if (sealed.length < headerSize || sealed[0] !== version) throw new SealError(`key ${id} is not sealed in a known way`)
  const nonceAt = 1 + sizes.salt
  const tagAt = nonceAt + sizes.nonce
  const salt = sealed.subarray(1, nonceAt)
  const nonce = sealed.subarray(nonceAt, tagAt)
  const decipher = createDecipheriv('aes-256-gcm', await derive(secret, salt, 32, cost), nonce)
  decipher.setAAD(Buffer.from(id)).setAuthTag(sealed.subarray(tagAt, headerSize))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(headerSize)), decipher.final()]).toString('utf8')
  } catch (cause) {
    throw new SealError(`the secret does not open key ${id}`, { cause })
  }
}
