import './global-setup.ts'

/** Stops what the setup started. */
export default async function globalTeardown(): Promise<void> {
  await globalThis.shopstreamTestBackend?.stop()
}
