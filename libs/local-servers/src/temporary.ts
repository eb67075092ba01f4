import { chmodSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * A new folder `shopstream-NAME-…` under the system's one for temporary files, through which others may pass: as root,
 * Postgres runs as another user, and would keep its data elsewhere, where nobody removes them.
 */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `shopstream-${name}-`))
  chmodSync(folder, 0o711)
  return folder
}
