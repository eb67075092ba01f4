import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { applyBreak, type Break } from './document.ts'

/** A copy of the workspace whose code can be broken and mended again. */
export interface WorkspaceCopy {
  readonly root: string
  /** Applies the breaks, runs `work`, and takes them back. */
  whileBroken<R>(breaks: readonly Break[], work: () => Promise<R>): Promise<R>
  drop(): void
}

/** Copies what git tracks, and what it would, from `root`; dependencies are shared, workspace packages are the copy's. */
export function copyWorkspace(root: string): WorkspaceCopy {
  const copy = mkdtempSync(join(tmpdir(), 'shopstream-broken-'))
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root })
  for (const file of listed.toString().split('\0').filter(Boolean)) {
    if (!existsSync(join(root, file))) continue // deleted, and not committed yet
    mkdirSync(join(copy, dirname(file)), { recursive: true })
    cpSync(join(root, file), join(copy, file))
  }
  shareDependencies(root, copy)
  const read = (file: string) => readFileSync(join(copy, file), 'utf8')
  return {
    root: copy,
    async whileBroken(breaks, work) {
      const originals = new Map(breaks.map(({ file }) => [file, read(file)]))
      try {
        for (const one of breaks) writeFileSync(join(copy, one.file), applyBreak(read(one.file), one))
        return await work()
      } finally {
        for (const [file, text] of originals) writeFileSync(join(copy, file), text)
      }
    },
    drop: () => rmSync(copy, { recursive: true, force: true }),
  }
}

/** Links to packages of the workspace are relative, so that copied ones lead to the copy. */
function shareDependencies(root: string, copy: string): void {
  for (const folder of ['.', ...workspaceFolders(root)]) {
    const modules = join(root, folder, 'node_modules')
    if (!existsSync(modules)) continue
    mkdirSync(join(copy, folder, 'node_modules'), { recursive: true })
    for (const name of readdirSync(modules)) {
      const [from, to] = [join(modules, name), join(copy, folder, 'node_modules', name)]
      if (name === '@shopstream') cpSync(from, to, { recursive: true, verbatimSymlinks: true })
      else symlinkSync(from, to)
    }
  }
}

function workspaceFolders(root: string): string[] {
  const { workspaces } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { workspaces: string[] }
  return workspaces.flatMap((pattern) => {
    if (!pattern.endsWith('/*')) return [pattern]
    const parent = pattern.slice(0, -2)
    return readdirSync(join(root, parent)).map((name) => `${parent}/${name}`)
  })
}
