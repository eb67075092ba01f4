import { spawnSync } from 'node:child_process'
import { UsageError } from '../terminal/options.ts'

/** A commit that the working tree is compared with. */
export interface Base {
  /** For people. */
  readonly ref: string
  /** The text of a file in it; undefined when it has none. Paths are from the top of the workspace. */
  read(path: string): string | undefined
  /** The files below a folder that it has and that are no longer, or differ. */
  changed(folder: string): string[]
}

/**
 * The commits in which the lock must be a beginning of today's: `ref`, or else where this branch left main; on main
 * itself, its last commit and the one before. `note` says in words why there are none or less than should be.
 * Throws {@link UsageError} when `ref` is given and unknown.
 */
export function basesOf(root: string, ref?: string): { bases: Base[]; note?: string } {
  const hash = (name: string) => git(root, ['rev-parse', '--verify', '--quiet', `${name}^{commit}`])?.trim()
  const base = (name: string, commit: string): Base => ({
    ref: name,
    read: (path) => git(root, ['show', `${commit}:./${path}`]),
    changed(folder) {
      const args = ['diff', '--name-only', '--no-renames', '--diff-filter=a', '--relative', commit, '--', folder]
      const names = git(root, args)
      if (names === undefined) throw new Error(`git cannot compare ${folder} with ${name}`)
      return names.split('\n').filter(Boolean)
    },
  })
  if (ref !== undefined) {
    const commit = hash(ref)
    if (commit === undefined) {
      throw new UsageError(
        `there is no commit ${ref} here: fetch it first (git fetch origin ${ref}; a shallow clone has only its tip)`,
      )
    }
    return { bases: [base(ref, commit)] }
  }
  const head = hash('HEAD')
  const without = (reason: string) => ({
    bases: head === undefined ? [] : [base('HEAD', head)],
    note:
      `${reason}, so the locks were compared with ${head === undefined ? 'no earlier state' : 'HEAD alone'}. ` +
      'Name a commit with --base REF',
  })
  if (head === undefined) return without('there is no git repository here, or no commit in it')
  const main = ['origin/main', 'main'].find((name) => hash(name) !== undefined)
  if (main === undefined) return without('there is no main here (git fetch origin main)')
  const fork = git(root, ['merge-base', 'HEAD', main])?.trim()
  if (fork === undefined) return without(`HEAD and ${main} have no common commit here (git fetch --unshallow)`)
  if (fork !== head) return { bases: [base(`the merge base with ${main}`, fork)] }
  const parent = hash('HEAD^')
  const bases = [base('HEAD', head), ...(parent === undefined ? [] : [base('HEAD^', parent)])]
  const isShallow = git(root, ['rev-parse', '--is-shallow-repository'])?.trim() === 'true'
  if (parent === undefined && isShallow) return without('this clone is shallow (git fetch --deepen 1)')
  return { bases }
}

/** What git prints; undefined when it is not there or says no. */
function git(root: string, args: string[]): string | undefined {
  const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  return status === 0 ? stdout : undefined
}
