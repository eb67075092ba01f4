import { type Route, reply, route } from '@shopstream/http'
import { Type } from 'typebox'
import { type AccountDeps, registerCustomer, showAccount } from './accounts/handlers.ts'
import { login, logout, refresh, type SessionDeps } from './sessions/handlers.ts'

const email = Type.String({
  maxLength: 320,
  description:
    'Upper and lower case make no difference, nor does Punycode: `bücher.example` is `xn--bcher-kva.example`.',
})
const password = Type.String({ minLength: 12, maxLength: 256 })

const account = Type.Object({
  id: Type.String({ format: 'uuid' }),
  email: Type.String(),
  displayName: Type.String(),
  roles: Type.Array(Type.String()),
  createdAt: Type.String({ format: 'date-time' }),
})

const tokens = Type.Object({
  accessToken: Type.String({ description: 'A JWT for `Authorization: Bearer`.' }),
  tokenType: Type.Literal('Bearer'),
  expiresIn: Type.Integer({ description: 'Seconds until the access token expires.' }),
  refreshToken: Type.String({ description: 'Good for one refresh; using it again later ends the session.' }),
})

/** The HTTP routes of the user service. */
export const routes = (deps: AccountDeps & SessionDeps): Route[] => [
  route({
    method: 'POST',
    url: '/v1/users',
    operationId: 'registerUser',
    summary: 'Register',
    access: 'anyone',
    schema: {
      body: Type.Object({
        email,
        password,
        displayName: Type.String({
          maxLength: 400,
          description: '1-100 characters of any script, on one line, to be seen.',
        }),
      }),
      response: { 201: account },
    },
    handle: async (request) => {
      const created = await registerCustomer(deps, request.body, request)
      return reply.created(created, '/v1/users/me')
    },
  }),
  route({
    method: 'GET',
    url: '/v1/users/me',
    operationId: 'getProfile',
    summary: 'Your profile',
    access: 'user',
    schema: { response: { 200: account } },
    handle: async (request) => reply.ok(await showAccount(deps, request.user.id)),
  }),
  route({
    method: 'POST',
    url: '/v1/sessions',
    operationId: 'logIn',
    summary: 'Log in',
    access: 'anyone',
    schema: {
      body: Type.Object({ email, password: Type.String({ maxLength: 1000 }) }),
      response: { 201: tokens },
    },
    handle: async (request) => reply.created(await login(deps, request.body, request)),
  }),
  route({
    method: 'POST',
    url: '/v1/sessions/refresh',
    operationId: 'refreshSession',
    summary: 'Exchange a refresh token for new tokens',
    access: 'anyone',
    schema: {
      body: Type.Object({ refreshToken: Type.String({ maxLength: 200 }) }),
      response: { 201: tokens },
    },
    handle: async ({ body, log }) => reply.created(await refresh(deps, body.refreshToken, log)),
  }),
  route({
    method: 'DELETE',
    url: '/v1/sessions/current',
    operationId: 'logOut',
    summary: 'Log out: the refresh tokens of this login end',
    access: 'user',
    schema: { response: { 204: Type.Null() } },
    handle: async (request) => {
      await logout(deps, request.user.sessionId)
      return reply.noContent()
    },
  }),
]
