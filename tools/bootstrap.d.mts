/** Types of what the tests of bootstrap.mjs use. */
type Packages = Record<string, object>
export function listCommands(root: string): { name: string; about: string }[]
export function isInstalled(root: string): boolean
export function holds(locked: Packages, installed: Packages): boolean
export function stampOf(lockText: string): string
export function writeStamp(root: string, lockText: string): void
export function lock(file: string): Promise<() => void>
