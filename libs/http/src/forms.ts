import type { FastifyInstance, FastifyRequest } from 'fastify'
import { errors } from './errors.ts'

/** What browsers and mail programs send; the second is what RFC 8058 would rather have. */
export const formTypes = ['application/x-www-form-urlencoded', 'multipart/form-data']

/** Takes forms of texts as objects, within `scope`. Bytes at the most: {@link formLimit}. */
export function takeForms(scope: FastifyInstance): void {
  scope.addContentTypeParser(
    formTypes,
    { parseAs: 'buffer', bodyLimit: formLimit },
    async (request: FastifyRequest, body: Buffer<ArrayBuffer>) => {
      const headers = { 'content-type': request.headers['content-type'] as string }
      const form = await new Response(body, { headers }).formData().catch(() => undefined)
      if (!form) throw errors['malformed-request']()
      return Object.fromEntries(form)
    },
  )
}

const formLimit = 16 * 1024
