/** `npm run generate`: writes types, AsyncAPI document, event catalogue and ACLs, or checks that they are fresh. */
process.argv.splice(2, 0, 'generate')
await import('./schemas.ts')
