/** `npm run generate`: writes what follows from the code: types, AsyncAPI, event catalogue, ACLs, pages; or checks that it is fresh. */
process.argv.splice(2, 0, 'generate')
await import('./schemas.ts')
