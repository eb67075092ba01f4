import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { incompatibilities } from '@shopstream/events/compatibility'
import { readJson } from '@shopstream/events/read-json'
import { UsageError } from '../terminal/options.ts'

export const usage = `Usage: npm run -s schemas -- check-pair READER WRITER

Whether a program with the schema in READER reads everything that was written with the one in WRITER: two files with
any Avro schemas, by the rules of Avro's Java implementation and some beyond (a changed logical type). Prints
  {"compatible": true|false, "incompatibilities": [{"type", "readerPath", "writerPath", "message"}]}

Exit code 0 when they are compatible, 1 when they are not, 2 with a message when a file is missing or is no schema.`

/** The command; returns its exit code. Throws `UsageError` for what is no pair of schemas. */
export async function checkPair(args: string[], folder = process.env.INIT_CWD ?? process.cwd()): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: { json: { type: 'boolean' } } })
  const [readerFile, writerFile, ...others] = positionals
  if (readerFile === undefined || writerFile === undefined || others.length > 0) {
    throw new UsageError(`check-pair takes two files, READER and WRITER, and got ${positionals.length}`)
  }
  const found = judge(readerFile, readSchema(folder, readerFile), writerFile, readSchema(folder, writerFile))
  const rows = found.map(({ type, readerPath, writerPath, message }) => ({ type, readerPath, writerPath, message }))
  console.log(JSON.stringify({ compatible: rows.length === 0, incompatibilities: rows }, null, 2))
  return rows.length === 0 ? 0 : 1
}

function readSchema(folder: string, file: string): unknown {
  try {
    return readJson(readFileSync(resolve(folder, file), 'utf8').replace(/^\ufeff/, ''))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new UsageError(`there is no file ${file}`)
    throw new UsageError(`${file} cannot be read: ${(error as Error).message}`)
  }
}

function judge(readerFile: string, reader: unknown, writerFile: string, writer: unknown) {
  try {
    return incompatibilities(reader, writer)
  } catch (error) {
    const { name, message } = error as Error
    if (name !== 'SchemaError') throw error
    const named = message.replace(/^reader#/, `${readerFile} #`).replace(/^writer#/, `${writerFile} #`)
    throw new UsageError(`no Avro schema: ${named}`)
  }
}
