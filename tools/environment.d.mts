/** Types of environment.mjs. */
export function ownEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv
export function cleanProcessEnvironment(): void
