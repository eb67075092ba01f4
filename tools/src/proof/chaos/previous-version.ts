import { mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { repository, runCommand } from '@shopstream/testing'

/** A version of the services' code in a folder of its own. */
export interface Version {
  /** In words, for the report. */
  name: string
  folder: string
}

const parts = ['services', 'libs', 'schemas', 'package.json', 'tsconfig.base.json']

/** The code as it is. */
export const thisVersion: Version = { name: 'this version', folder: repository }

const git = (...args: string[]) => runCommand('git', ['-C', repository, ...args])

/** The commit before the last that changed what runs; undefined where there is no such history. */
export async function previousCommit(): Promise<string | undefined> {
  const history = ['log', '--first-parent', '--max-count=2', '--format=%h', 'HEAD', '--', 'services', 'libs', 'schemas']
  return (await git(...history).catch(() => '')).trim().split('\n')[1]
}

/**
 * Puts the code of a commit into `folder`: by default of the one before the last that changed what runs. It runs on the
 * packages that are installed now. Where there is no such history, the answer is {@link thisVersion}.
 */
export async function previousVersion(folder: string, ref?: string): Promise<Version> {
  const commit = ref ?? (await previousCommit())
  if (!commit) return thisVersion
  mkdirSync(folder, { recursive: true })
  const archive = join(folder, 'code.tar')
  await git('archive', '--output', archive, commit, ...parts)
  await runCommand('tar', ['-xf', archive, '-C', folder])
  linkPackages(folder)
  return { name: `commit ${commit}`, folder }
}

/** Everything installed is shared; the workspace's own packages are those of the folder. */
function linkPackages(folder: string): void {
  const installed = join(repository, 'node_modules')
  const modules = join(folder, 'node_modules')
  mkdirSync(join(modules, '@shopstream'), { recursive: true })
  for (const name of readdirSync(installed))
    if (name !== '@shopstream' && !name.startsWith('.')) symlinkSync(join(installed, name), join(modules, name))
  for (const name of readdirSync(join(folder, 'libs')))
    symlinkSync(join(folder, 'libs', name), join(modules, '@shopstream', name))
}
